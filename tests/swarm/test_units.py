from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.scenario.units import (
    LARGEST_COUNT,
    LONGEST_MS,
    MOST_MONEY,
    parse_count,
    parse_duration,
    parse_money,
    picodollars_per_token,
)


@pytest.mark.parametrize(
    ("text", "ms"),
    [("30s", 30_000), ("10m", 600_000), ("2h", 7_200_000), ("250ms", 250), ("1.5h", 5_400_000), ("1h30m", 5_400_000)],
)
def test_a_duration_is_milliseconds(text: str, ms: int) -> None:
    assert parse_duration(text) == ms


@pytest.mark.parametrize(
    "value",
    [
        "",
        "30",
        30,
        "0s",
        "-1s",
        "1 s",
        "0.1ms",
        "1y",
        "s",
        "367d",
        "1e3s",
        "\u0663s",
        "inf",
        None,
        True,
        "9" * 40 + "s",
    ],
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"duration|zero|fine|large"):
        parse_duration(value)


@pytest.mark.parametrize(("value", "count"), [(24, 24), ("24", 24), ("200k", 200_000), ("1.5M", 1_500_000)])
def test_a_count_has_its_shorthand(value: object, count: int) -> None:
    assert parse_count(value) == count


@pytest.mark.parametrize(
    "value",
    [0, -1, 1.5, True, None, "", "1.5", "0.0001k", "0k", "1G", "1e6", 10**13, pytest.param(10**5000, id="huge"), []],
)
def test_what_is_no_count_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"count|zero|fine|large"):
        parse_count(value)


def test_money_is_picodollars() -> None:
    assert parse_money("0.50 USD") == 500_000_000_000
    assert parse_money("3USD") == 3 * 10**12
    assert parse_money("0.000000000001 USD") == 1


@pytest.mark.parametrize("value", ["0.50", 0.5, "0 USD", "5 EUR", "$5", "-1 USD", "0.0000000000001 USD", "2000000 USD"])
def test_what_is_no_money_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"money|zero|fine|large"):
        parse_money(value)


@pytest.mark.parametrize(
    ("value", "price"), [(0.10, 100_000), (0.40, 400_000), (0, 0), ("0.000001", 1), (15, 15 * 10**6)]
)
def test_a_price_of_a_million_tokens_is_exact_for_one(value: object, price: int) -> None:
    assert picodollars_per_token(value) == price


@pytest.mark.parametrize(
    "value", [-1, 0.0000001, "nan", "inf", float("nan"), None, True, "x", [], 10**9, pytest.param(10**5000, id="huge")]
)
def test_what_is_no_price_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"price"):
        picodollars_per_token(value)


@given(st.integers(1, LONGEST_MS))
def test_every_duration_in_milliseconds_is_read_back(ms: int) -> None:
    assert parse_duration(f"{ms}ms") == ms
    assert parse_duration(f"{Decimal(ms) / 1000:f}s") == ms


@given(st.integers(1, LARGEST_COUNT), st.integers(1, MOST_MONEY))
def test_every_count_and_amount_is_read_back(count: int, money: int) -> None:
    assert parse_count(count) == parse_count(str(count)) == parse_count(f"{Decimal(count) / 1000:f}k") == count
    assert parse_money(f"{Decimal(money) / 10**12:f} USD") == money


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.lists(st.integers())))
def test_anything_else_is_a_value_error_with_a_short_text(value: object) -> None:
    for parse in (parse_duration, parse_count, parse_money, picodollars_per_token):
        try:
            assert 0 <= parse(value) < 2**63
        except ValueError as error:
            assert len(str(error)) < 250  # noqa: PT017 - any other exception fails the test
