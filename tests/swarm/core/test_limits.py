"""Tokens and money: whatever the order of asking, answering and failing, no limit is passed."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bus.events import Usage
from bus.setup import Limits, Price
from swarm.core.limits import LEAST_ANSWER, Call, Ledger, cost
from swarm.core.state import RunState

PRICE = Price(input=250_000, output=2_000_000, cached=25_000)
SMALL = st.integers(0, 3_000)


class Races(RuleBasedStateMachine):
    """Calls that ask, wait, are granted or refused, answered or lost, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(Limits(tokens=10_000, money=10_000 * 700_000))
        self.asked = 0
        self.ended: set[object] = set()

    @rule(order=st.integers(0, 20), input_bound=SMALL, max_tokens=st.integers(1, 3_000), priced=st.booleans())
    def ask(self, order: int, input_bound: int, max_tokens: int, *, priced: bool) -> None:
        self.asked += 1
        before = self.ledger.oldest()
        call = Call((f"r{self.asked}", 1, (0,), 1), order, input_bound, max_tokens, PRICE if priced else None)
        self.ledger.ask(call)
        if before is not None and before.order <= order:
            assert call.key in self.ledger.waiting, "nobody overtakes an older request"

    @precondition(lambda self: self.ledger.queue)
    @rule()
    def grant_or_refuse(self) -> None:
        call = self.ledger.oldest()
        assert call is not None
        granted = self.ledger.grantable(call)
        if granted is None:
            assert self.ledger.reserved, "it waits only while room can still come"
        elif granted:
            assert min(LEAST_ANSWER, call.max_tokens) <= granted <= call.max_tokens
            self.ledger.grant(call.key, granted)
        else:
            self.ledger.drop(call.key)

    @precondition(lambda self: self.ledger.reserved)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        call = self._one(data)
        sent, written = data.draw(st.integers(0, call.input_bound)), data.draw(st.integers(0, call.max_tokens))
        self.ledger.settle(call.key, Usage(input=sent, output=written, cached=data.draw(st.integers(0, sent))))

    @precondition(lambda self: self.ledger.reserved)
    @rule(data=st.data(), unproven=st.booleans())
    def lose(self, data: st.DataObject, *, unproven: bool) -> None:
        call = self._one(data)
        before = self.ledger.spent.tokens
        if unproven:
            self.ledger.settle_unproven(call.key)
            assert self.ledger.spent.tokens == before + call.tokens
        else:
            self.ledger.settle_at_zero(call.key)
            assert self.ledger.spent.tokens == before

    def _one(self, data: st.DataObject) -> Call:
        return self.ledger.reserved[data.draw(st.sampled_from(sorted(self.ledger.reserved)))]

    @invariant()
    def no_limit_is_passed(self) -> None:
        ledger = self.ledger
        assert ledger.spent.tokens + ledger.reserved_tokens <= 10_000
        assert ledger.spent.money + ledger.reserved_money <= 10_000 * 700_000
        assert ledger.beyond is None

    @invariant()
    def sums_are_sums(self) -> None:
        ledger = self.ledger
        assert ledger.reserved_tokens == sum(call.tokens for call in ledger.reserved.values())
        assert ledger.reserved_money == sum(call.money for call in ledger.reserved.values())
        assert not ledger.reserved.keys() & ledger.waiting.keys()
        assert {key for _, _, key in ledger.queue} >= ledger.waiting.keys()
        oldest = ledger.oldest()
        assert oldest is None or oldest.order == min(call.order for call in ledger.waiting.values())


Races.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestRaces = Races.TestCase


def test_an_older_request_need_not_wait_behind_a_younger_one() -> None:
    ledger = Ledger(Limits(tokens=1_000))
    for order, wanted in ((5, 600), (6, 600), (7, 300), (1, 300)):
        ledger.ask(Call((f"r{order}", 1, (0,), 1), order, 0, wanted, None))
    assert [key[0] for key in ledger.reserved] == ["r5", "r1"]
    assert [key[0] for key in ledger.waiting] == ["r6", "r7"]


@pytest.mark.parametrize(
    ("left", "granted"),
    [(2 * LEAST_ANSWER, 2 * LEAST_ANSWER), (LEAST_ANSWER, LEAST_ANSWER), (LEAST_ANSWER - 1, 0)],
)
@pytest.mark.parametrize("by_money", [False, True])
def test_a_call_that_does_not_fit_gets_what_is_left_where_that_is_enough_for_an_answer(
    left: int, granted: int, *, by_money: bool
) -> None:
    money = 100 * PRICE.input + left * PRICE.output
    ledger = Ledger(Limits(tokens=10_000, money=money) if by_money else Limits(tokens=100 + left))
    call = Call(("r", 1, (0,), 1), 0, 100, 5_000, PRICE)
    ledger.ask(call)
    assert ledger.oldest() == call
    assert ledger.grantable(call) == granted


@given(SMALL, SMALL, SMALL, SMALL)
def test_what_is_billed_beyond_the_reservation_is_said(bound: int, most: int, sent: int, written: int) -> None:
    ledger = Ledger(Limits(tokens=1_000_000))
    ledger.ask(Call(("r", 1, (0,), 1), 0, bound, most, None))
    ledger.settle(("r", 1, (0,), 1), Usage(input=sent, output=written))
    assert (ledger.beyond is not None) == (sent > bound or written > most)
    assert ledger.spent.tokens == sent + written


@given(SMALL, SMALL, SMALL, st.integers(1, 12_000), st.integers(0, 10_000_000_000))
@example(2, 2, 0, 4, 10_000_000_000).via("just the limit of tokens")
@example(0, 2, 0, 12_000, 2 * PRICE.output).via("just the limit of money")
def test_a_limit_is_passed_where_what_is_spent_and_reserved_is_more_than_it(
    sent: int, written: int, other: int, tokens: int, money: int
) -> None:
    """The second call is under way while the first is billed beyond its reservation."""
    ledger = Ledger(Limits(tokens=100_000, money=10**12))
    for name, most in (("a", 1), ("b", other)):
        ledger.ask(Call((name, 1, (0,), 1), 0, 0, most, PRICE))
    ledger.settle(("a", 1, (0,), 1), Usage(input=sent, output=written))
    assert ledger.passed is None
    ledger.limits = Limits(tokens=tokens, money=money)
    used = cost(Usage(input=sent, output=written + other), PRICE)
    over = sent + written + other > tokens or used > money
    assert (ledger.passed is not None) == (over and ledger.beyond is not None)
    if ledger.passed:
        assert ("limits.tokens" in ledger.passed) == (sent + written + other > tokens)


@given(SMALL, SMALL, SMALL)
def test_cached_tokens_are_part_of_the_input_at_their_own_price(sent: int, written: int, cached: int) -> None:
    paid = cost(Usage(input=sent, output=written, cached=cached), PRICE)
    assert cost(Usage(input=sent, output=written, cached=sent), PRICE) <= paid
    assert paid <= cost(Usage(input=sent, output=written), PRICE) == 250_000 * sent + 2_000_000 * written


def test_what_is_estimated_or_has_no_price_is_told() -> None:
    ledger = Ledger(Limits(tokens=1_000))
    for name, price, estimated in (("a", PRICE, False), ("b", PRICE, True), ("c", None, True)):
        ledger.ask(Call((name, 1, (0,), 1), 0, 10, 20, price))
        ledger.settle((name, 1, (0,), 1), Usage(input=3, output=4, estimated=estimated))
        assert ledger.spent.price_known is (price is not None)
    assert (ledger.spent.estimated, ledger.spent.tokens, ledger.spent.calls) == (14, 21, 3)


def test_a_call_of_a_waiting_request_that_is_settled_is_forgotten() -> None:
    ledger = Ledger(Limits(tokens=1_000))
    first, second = (Call((name, 1, (0,), 1), 1, 500, 300, None) for name in "ab")
    ledger.ask(first)
    ledger.ask(second)
    assert second.key in ledger.waiting
    ledger.settle_unproven(second.key)
    assert not ledger.waiting
    assert not ledger.queue
    ledger.settle_unproven(second.key)
    assert ledger.spent.tokens == 0


@pytest.mark.parametrize(
    ("changes", "stays"),
    [
        ({}, True),
        ({"tokens": 999}, True),
        ({"tokens": 1_000}, False),
        ({"money": None}, False),
        ({"tokens": 999, "rounds": 9}, False),
    ],
    ids=str,
)
def test_only_a_failed_run_is_reopened_and_only_by_a_limit_that_holds_what_it_held(
    changes: dict[str, int | None], *, stays: bool
) -> None:
    state = RunState("run", status="failed", limits=Limits(tokens=1_000, money=5))
    assert state.stays_ended(changes) is stays
    state.status = "accepted"
    assert state.stays_ended(changes)
