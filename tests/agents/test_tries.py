from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.model import EndpointHealth, TryFailed, TryKind
from agents.tries import Again, GiveUp, Pause, after

KINDS = get_args(TryKind)


def what_follows(
    kind: TryKind,
    number: int = 1,
    *,
    answered: int = 1,
    elapsed_s: float = 0.0,
    deadline_s: float = 600.0,
    chance: float = 0.5,
    retry_after_s: float | None = None,
) -> Again | GiveUp | Pause:
    failure = TryFailed(kind, "told so", retry_after_s=retry_after_s, remedy="Do this.")
    health = EndpointHealth(answered=answered)
    return after(failure, number, health, elapsed_s, deadline_s, chance, answered_before=0)


def test_a_server_error_is_tried_four_times_with_full_jitter() -> None:
    waits = [what_follows("server", number) for number in (1, 2, 3)]
    assert waits == [Again(1.0), Again(2.0), Again(4.0)]
    assert what_follows("server", 3, chance=0.0) == Again(0.0)
    assert what_follows("server", 4) == GiveUp("told so. Do this.")


def test_a_rate_limit_is_waited_out_until_the_deadline() -> None:
    assert what_follows("rate_limited", 9, retry_after_s=30.0) == Again(30.0)
    assert what_follows("rate_limited", 9, chance=1.0) == Again(60.0)
    assert isinstance(what_follows("rate_limited", retry_after_s=30.0, elapsed_s=580.0), Pause)


def test_an_endpoint_that_asks_for_no_wait_is_believed_once() -> None:
    waits = [what_follows("rate_limited", number, retry_after_s=0.0) for number in (1, 2, 3, 4)]
    assert waits == [Again(0.0), Again(2.0), Again(4.0), Again(8.0)]
    assert what_follows("rate_limited", 3, retry_after_s=30.0) == Again(30.0)
    assert what_follows("server", 3, retry_after_s=0.0) == Again(4.0)


def test_a_rate_limit_that_asks_for_no_wait_pauses_after_few_tries() -> None:
    elapsed_s = 0.0
    for number in range(1, 50):
        step = what_follows("rate_limited", number, elapsed_s=elapsed_s, retry_after_s=0.0)
        if not isinstance(step, Again):
            assert isinstance(step, Pause)
            return
        elapsed_s += step.wait_s
    pytest.fail("it was tried fifty times")


@pytest.mark.parametrize("kind", ["lost", "nonsense"])
def test_what_was_lost_or_senseless_is_tried_once_more(kind: TryKind) -> None:
    assert what_follows(kind, 1) == Again(0.0)
    assert isinstance(what_follows(kind, 2), GiveUp)


def test_a_parameter_is_left_out_at_once() -> None:
    assert what_follows("parameter", 3) == Again(0.0)


@pytest.mark.parametrize("kind", ["too_long", "refused"])
def test_what_would_fail_again_is_not_tried_again(kind: TryKind) -> None:
    assert what_follows(kind) == GiveUp("told so. Do this.")


def test_what_only_a_person_can_mend_pauses() -> None:
    assert what_follows("unavailable") == Pause("told so. Do this.")


@pytest.mark.parametrize(("kind", "number"), [("server", 4), ("lost", 2), ("nonsense", 2), ("too_big", 1)])
def test_an_endpoint_that_answers_nobody_pauses_the_run(kind: TryKind, number: int) -> None:
    assert isinstance(what_follows(kind, number, answered=0), Pause)
    assert isinstance(what_follows(kind, number, answered=1), GiveUp)


SECONDS = st.floats(0, 10_000)


@given(
    st.sampled_from(KINDS),
    st.integers(1, 1000),
    st.integers(0, 3),
    SECONDS,
    SECONDS,
    st.floats(0, 1),
    st.none() | SECONDS,
)
def test_no_try_begins_after_the_deadline(  # noqa: PLR0917
    kind: TryKind,
    number: int,
    answered: int,
    elapsed_s: float,
    deadline_s: float,
    chance: float,
    retry_after_s: float | None,
) -> None:
    step = what_follows(
        kind,
        number,
        answered=answered,
        elapsed_s=elapsed_s,
        deadline_s=deadline_s,
        chance=chance,
        retry_after_s=retry_after_s,
    )
    if isinstance(step, Again):
        assert elapsed_s + step.wait_s < deadline_s
        assert step.wait_s >= 0
        assert retry_after_s is not None or step.wait_s <= 60


@given(st.sampled_from(KINDS), st.floats(0, 1))
def test_tries_without_a_wait_that_is_asked_for_come_to_an_end(kind: TryKind, chance: float) -> None:
    elapsed_s = 0.0
    for number in range(1, 10_000):
        step = what_follows(kind, number, elapsed_s=elapsed_s, chance=chance)
        if not isinstance(step, Again):
            return
        elapsed_s += step.wait_s + 1.0
    pytest.fail("went on for ever")
