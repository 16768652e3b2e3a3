"""What is put together from the log is what the endpoint was sent, message for message."""

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from agents.canonical import digest_of
from agents.conversation.messages import Mode
from agents.conversation.requests import Requests, WholeRequest
from bus.envelope import Envelope
from bus.events import Effect, Fact, Message, ModelAnswered, ModelAsked, ModelTryFailed, Usage
from tests.support.busy_run import FAULTS, ROLE, answers, busy
from tests.support.endpoint import ChatEndpoint
from tests.support.runs import Story, start, story


def counted(requests: Iterable[Iterable[Message]]) -> Counter[str]:
    return Counter(json.dumps([*messages]) for messages in requests)


def adds_up(one: WholeRequest) -> bool:
    """Whether the digest that the role made of its request is that of the one put together."""
    asked = one.asked
    matters = {"messages": one.messages, "model": asked.model, "sampling": asked.sampling, "tools": asked.tools}
    return digest_of(matters) == asked.digest


def of_log(run: Story) -> list[tuple[Envelope, WholeRequest]]:
    requests = Requests()
    made = ((envelope, requests.take(envelope.event, envelope.subject or "")) for envelope in run.log)
    return [(envelope, one) for envelope, one in made if one is not None]


def of_attempt(effects: Iterable[Fact]) -> list[WholeRequest]:
    requests = Requests()
    return [one for event in effects if (one := requests.take(event)) is not None]


@pytest.mark.parametrize("mode", ["native", "json"])
async def test_every_recorded_ask_is_what_the_endpoint_received(tmp_path: Path, mode: Mode) -> None:
    async with ChatEndpoint(answers(mode), faults=FAULTS) as endpoint:
        outcome = await start(tmp_path, busy(endpoint), **ROLE, dialogue=mode)
    assert outcome.outcome == "accepted", outcome.reason
    run = await story(tmp_path)
    made = [one for _, one in of_log(run)]
    assert counted(one.messages for one in made) == counted(one.body["messages"] for one in endpoint.requests)
    assert all(map(adds_up, made))
    assert {one.mode for one in made} == {mode}
    # It met what it should: attempts after a rejection, shortened history, failed tries of each kind.
    assert {one.asked.attempt for one in made} >= {1, 2}
    assert any("left out" in json.dumps(one.messages) for one in made)
    assert any(one.asked.follows and one.asked.keeps < len(one.messages) - 3 for one in made)
    assert {failed.kind for failed in run.of(ModelTryFailed)} == {"rate_limited", "nonsense", "too_long"}


async def test_the_effects_of_one_attempt_are_enough(tmp_path: Path) -> None:
    async with ChatEndpoint(answers()) as endpoint:
        await start(tmp_path, busy(endpoint))
    run = await story(tmp_path)
    alone = [event for event in run.of(*Effect.__args__, subject="north") if event.attempt == 2]
    of_north = [one for envelope, one in of_log(run) if envelope.subject == "north"]
    whole = [one for one in of_north if one.asked.attempt == 2]
    assert len(whole) == 8
    assert of_attempt(alone) == whole


def asked(*path: int, follows: tuple[int, ...] | None = None, keeps: int = 0, number: int = 1) -> ModelAsked:
    said: Message = {"role": "user", "content": f"{path}"}
    return ModelAsked(
        attempt=1, path=path, number=number, digest="", model="a:b", messages=(said,), follows=follows, keeps=keeps,
        input_bound=1, max_tokens=1,
    )  # fmt: skip


def answered(*path: int, text: str = "yes") -> ModelAnswered:
    return ModelAnswered(attempt=1, path=path, number=1, text=text, usage=Usage(input=1, output=1))


def test_an_ask_that_continues_what_is_not_there_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"attempt 1, effect 3 follows 1, whose answer is not in the log"):
        of_attempt([asked(1), asked(3, follows=(1,), keeps=2)])
    with pytest.raises(ValueError, match="9 messages are to be kept of 2"):
        of_attempt([asked(1), answered(1), asked(3, follows=(1,), keeps=9)])


def test_an_ask_made_again_counts_as_it_was_made_last() -> None:
    """As in a fork, where life begins at an ask whose key the parent had used."""
    events = [asked(0), answered(0, text="first"), asked(0), answered(0, text="then"), asked(1, follows=(0,), keeps=2)]
    assert [message["content"] for message in of_attempt(events)[-1].messages] == ["(0,)", "then", "(1,)"]


def test_an_answer_without_its_ask_is_passed_over() -> None:
    assert of_attempt([answered(0), asked(1)])[0].messages == asked(1).messages
