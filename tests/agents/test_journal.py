"""Effects by key and digest: what is recorded is found again, in its order, and what differs is said."""

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.canonical import canonical_json, digest_of
from agents.errors import Diverged
from agents.journal import Journal, Lane
from bus.events import (
    Effect,
    ModelAnswered,
    ModelAsked,
    ModelTryFailed,
    Path,
    ToolCalled,
    ToolReturned,
    Usage,
    ValueDrawn,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def asked(path: Path, number: int = 1) -> ModelAsked:
    return ModelAsked(
        attempt=1, path=path, number=number, digest="d", model="m", messages=(), input_bound=1, max_tokens=1
    )


def answered(path: Path, number: int = 1) -> ModelAnswered:
    return ModelAnswered(attempt=1, path=path, number=number, text="t", usage=Usage(input=1, output=1))


def failed(path: Path, number: int = 1, wait_ms: int | None = 0) -> ModelTryFailed:
    return ModelTryFailed(attempt=1, path=path, number=number, kind="server", reason="503", wait_ms=wait_ms)


def tool(kind: type[ToolCalled | ToolReturned], path: Path) -> Effect:
    more = {"output": "o"} if kind is ToolReturned else {}
    return kind.model_validate({"attempt": 1, "path": path, "digest": "t", "tool": "x", "arguments": {}, **more})


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_json_is_canonical(value: object) -> None:
    assert canonical_json(value) == rfc8785.dumps(value)


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(st.text(), VALUES, max_size=5), st.randoms())
def test_a_digest_does_not_hang_on_the_order_of_keys(value: dict[str, object], chance: object) -> None:
    keys = list(value)
    chance.shuffle(keys)  # type: ignore[attr-defined]
    assert digest_of({key: value[key] for key in keys}) == digest_of(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_json_cannot_say_has_no_digest(value: float) -> None:
    with pytest.raises(ValueError, match="infinite"):
        digest_of({"x": value})


def test_a_lane_counts_effects_and_the_lanes_below_it() -> None:
    lane = Lane()
    assert lane.next() == (0,)
    below = lane.open()
    assert [below.next(), below.next(), below.open().next()] == [(1, 0), (1, 1), (1, 2, 0)]
    assert lane.next() == (2,)


def test_outcomes_are_handed_out_in_the_order_of_the_log_each_after_all_before_it_has_begun() -> None:
    journal = Journal(
        [asked((0,)), asked((1,)), answered((1,)), tool(ToolCalled, (2,)), answered((0,)), tool(ToolReturned, (2,))]
    )
    journal.begin(asked((1,)))
    assert journal.deliverable() is None, "effect 0 had begun before"
    journal.begin(asked((0,)))
    entry = journal.deliverable()
    assert entry is not None
    assert entry.path == (1,)
    assert journal.deliverable() is None, "tool 2 had begun before"
    assert journal.unbegun() == 3
    assert journal.named(3) == "ToolCalled 2"
    journal.begin(tool(ToolReturned, (2,)))
    assert [getattr(journal.deliverable(), "path", None) for _ in range(3)] == [(0,), (2,), None]
    assert journal.drained
    assert journal.unbegun() is None


@pytest.mark.parametrize(
    ("records", "outcome", "tries"),
    [
        ([asked((0,))], None, 1),
        ([asked((0,)), failed((0,))], None, 1),
        ([asked((0,)), failed((0,)), asked((0,), 2)], None, 2),
        ([asked((0,)), failed((0,)), asked((0,), 2), failed((0,), 2, None)], ModelTryFailed, 2),
        ([asked((0,)), failed((0,)), asked((0,), 2), answered((0,), 2)], ModelAnswered, 2),
        ([tool(ToolCalled, (0,))], None, 0),
        ([tool(ToolCalled, (0,)), tool(ToolReturned, (0,))], ToolReturned, 0),
    ],
)
def test_an_effect_has_an_outcome_or_goes_on(records: list[Effect], outcome: type[Effect] | None, tries: int) -> None:
    journal = Journal(records)
    entry = journal.begin(records[0])
    assert entry is not None
    assert (type(entry.outcome) if entry.outcome else None) == outcome
    assert entry.tries == tries
    handed = journal.deliverable()
    assert (handed is entry) == (outcome is not None)
    assert journal.drained


@pytest.mark.parametrize(
    ("begun", "says"),
    [
        (asked((3, 1)).model_copy(update={"digest": "other"}), "ModelAsked 3.1"),
        (tool(ToolCalled, (3, 1)), "ToolCalled 3.1"),
        (ValueDrawn(attempt=1, path=(3, 1), kind="now", value=0), "ValueDrawn 3.1"),
    ],
)
def test_an_effect_that_is_not_the_recorded_one_is_named(begun: Effect, says: str) -> None:
    journal = Journal([asked((3, 0)), asked((3, 1))])
    with pytest.raises(Diverged, match=rf"began {says}, its log has ModelAsked 3.1 there") as caught:
        journal.begin(begun)
    assert caught.value.at == 1


def test_a_value_of_another_kind_is_another_effect() -> None:
    journal = Journal([ValueDrawn(attempt=1, path=(0,), kind="now", value=1)])
    with pytest.raises(Diverged):
        journal.begin(ValueDrawn(attempt=1, path=(0,), kind="random", value=0))


def test_a_difference_shows_both_requests() -> None:
    def say(text: str, digest: str) -> ModelAsked:
        said = ({"role": "system", "content": "You write."}, {"role": "user", "content": text})
        return asked((0,)).model_copy(update={"digest": digest, "messages": said})

    journal = Journal([say("Write a letter.\nBe brief.", "a")])
    with pytest.raises(Diverged) as caught:
        journal.begin(say("Write a letter.\nBe kind.", "b"))
    told = str(caught.value).splitlines()
    assert "-Be brief." in told
    assert "+Be kind." in told
    assert not any("You write." in line and line[0] in "+-" for line in told)


def test_what_is_not_recorded_is_new() -> None:
    journal = Journal([asked((0,))])
    assert journal.begin(asked((1,))) is None
    assert not journal.drained
    assert Journal([]).drained
