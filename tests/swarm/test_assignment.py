"""One attempt in a worker's hands: which words of a hub it acts upon."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bus import topics
from bus.envelope import Envelope, Stamp
from bus.errors import BusUnavailable
from bus.events import ModelAsked, ResultSubmitted, SubtaskAssigned, ValueDrawn
from bus.pubsub import Bus, Note
from bus.setup import FileChange, Subtask
from bus.transports.memory import MemoryTransport
from swarm.runtime import new_id
from swarm.working.assignment import FRESH_S, GRACE_S, Assignment

ASKED = ModelAsked(
    attempt=1, path=(0,), number=1, digest="d", model="test:model", messages=(), input_bound=1, max_tokens=9
)
REQUEST = Envelope(
    "lease",
    "/swarm/hub/north",
    SubtaskAssigned(
        subtask=Subtask(id="a", role="coder", instruction="do it"), attempt=1, agent="one/1", deadline_ms=1000
    ),
    "run",
    "",
    "a",
    None,
    5,
    0,
)
ATTACHMENTS = {"reply_to": topics.hub_reply("north", "one/1", "run"), "remaining_ms": 60_000, "epoch": 1}


@asynccontextmanager
async def asking() -> AsyncIterator[tuple[Assignment, "asyncio.Task[int]"]]:
    """Give an assignment that has asked whether it may call its model."""
    async with MemoryTransport() as transport:
        times = itertools.count()
        stamp = Stamp("/swarm/agent/one/1", new_id, lambda: f"2026-01-01T00:00:{next(times):02}Z")
        assignment = Assignment.of(REQUEST, ATTACHMENTS, Bus(transport), stamp, keeps=True)
        asked = asyncio.create_task(assignment.ask(ASKED))
        while not assignment.waiting:
            await asyncio.sleep(0)
        yield assignment, asked
        asked.cancel()


def said(assignment: Assignment) -> str:
    """Return the time that the one intent bore as it was said last."""
    (intent,) = assignment.waiting.values()
    return intent.envelope.time


@pytest.mark.parametrize(
    "wrong",
    [
        {"reply_to": None},
        {"reply_to": topics.hub_card("north")},
        {"remaining_ms": "60000"},
        {"remaining_ms": None},
        {"epoch": None},
    ],
    ids=str,
)
async def test_a_request_with_attachments_that_are_none_is_refused(wrong: dict[str, object]) -> None:
    async with MemoryTransport() as transport:
        stamp = Stamp("/swarm/agent/one/1", new_id, lambda: "2026-01-01T00:00:00Z")
        with pytest.raises(ValueError, match=r"reply_to|remaining_ms"):
            Assignment.of(REQUEST, ATTACHMENTS | wrong, Bus(transport), stamp)


async def test_a_confirmation_is_acted_upon() -> None:
    async with asking() as (assignment, asked):
        assert (assignment.remaining_s, assignment.epoch, assignment.heard_of) == (60, 1, True)
        assert assignment.confirmed((0,), 1, 7, said(assignment)) is None
        assert await asked == 7


async def test_a_confirmation_that_waited_for_us_is_asked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """We were halted with it unread: by now another may hold the lease, and have made the call."""
    loop = asyncio.get_running_loop()
    async with asking() as (assignment, asked):
        clock = loop.time
        with monkeypatch.context() as later:
            later.setattr(loop, "time", lambda: clock() + FRESH_S + 1)
            before = said(assignment)
            again = assignment.confirmed((0,), 1, 7, before)
            assert again is not None
            assert again.event == ASKED
            assert again.time != before
            assert assignment.confirmed((0,), 1, 7, before) is None, "the old word, doubled on its way"
            assert assignment.confirmed((0,), 1, 7, None) == again, "a grant that does not say what it answers"
            assert not asked.done()
            later.setattr(loop, "time", lambda: clock() + 2.5 * FRESH_S + 1)
            assert assignment.confirmed((0,), 1, 7, again.time) is None, "the answer to what was asked anew"
            assert assignment.confirmed((0,), 1, 7, again.time) is None, "a word that comes twice"
        assert await asked == 7


@pytest.mark.parametrize(("after_s", "overdue"), [(60 + GRACE_S - 1, False), (60 + GRACE_S + 1, True)])
async def test_what_no_hub_has_a_word_on_is_kept_for_a_while_after_its_deadline(
    monkeypatch: pytest.MonkeyPatch, after_s: float, *, overdue: bool
) -> None:
    clock = asyncio.get_running_loop().time
    async with asking() as (assignment, _):
        with monkeypatch.context() as later:
            later.setattr(asyncio.get_running_loop(), "time", lambda: clock() + after_s)
            assert assignment.overdue is overdue


async def test_what_is_said_goes_to_the_hub_that_has_the_run_now() -> None:
    async with asking() as (assignment, _):
        now = topics.hub_reply("south", "one/1", "run")
        assignment.moved(now, 3)
        assignment.moved(topics.hub_reply("north", "one/1", "run"), 2)
        assert (assignment.reply_to, assignment.epoch) == (now, 3), "a word that was overtaken"
        with pytest.raises(ValueError, match="is no topic for replies"):
            assignment.moved(topics.hub_card("south"), 4)


class Heard(Bus):
    """A bus that keeps what is said."""

    def __init__(self, *, lost: bool = False) -> None:
        self.lost = lost
        self.said: list[tuple[int, str] | str] = []

    async def publish(self, _topic: str, envelope: Envelope) -> None:
        if self.lost:
            raise BusUnavailable("the broker is gone")
        self.said.append((envelope.sequence, envelope.time))

    async def publish_note(self, _topic: str, note: Note) -> None:
        self.said.append(note.kind)


async def test_what_is_not_recorded_is_said_again_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    drawn = ValueDrawn(attempt=1, path=(1,), kind="now", value=0)

    async def said_again() -> list[tuple[int, str] | str]:
        assignment.bus = heard = Heard()
        await assignment.say_again()
        return heard.said

    async with asking() as (assignment, asked):
        await assignment.tell(drawn)
        first, second = (1, said(assignment)), (2, "2026-01-01T00:00:01Z")
        assert await said_again() == ["progress", first, second]
        with monkeypatch.context() as later:
            clock = loop.time
            later.setattr(loop, "time", lambda: clock() + FRESH_S + 1)
            anew = assignment.confirmed((0,), 1, 7, first[1])
            assert anew is not None
        assert await said_again() == ["progress", (1, anew.time), second], "as it was asked last"
        assignment.recorded(1)
        assert await said_again() == ["progress", (1, anew.time), second], "it waits for the word on it"
        assert assignment.confirmed((0,), 1, 7, anew.time) is None
        assignment.ended = True
        assert await said_again() == [second]
        assignment.recorded(2)
        assert await said_again() == []
        assert await asked == 7


async def test_what_is_handed_back_is_ended_and_said_once() -> None:
    async with asking() as (assignment, _):
        assignment.task = asyncio.create_task(asyncio.sleep(60))
        assignment.bus = heard = Heard()
        await assignment.hand_back("its agent drains")
        await assignment.hand_back("its agent drains")
        assert len(heard.said) == 1
        await asyncio.wait([assignment.task])
        assert assignment.task.cancelled()


async def test_without_a_bus_what_is_said_is_kept_or_who_said_it_is_told() -> None:
    drawn = ValueDrawn(attempt=1, path=(1,), kind="now", value=0)
    async with asking() as (assignment, _):
        assignment.bus = Heard(lost=True)
        await assignment.tell(drawn)
        assignment.bus = heard = Heard()
        await assignment.say_again()
        assert len(heard.said) == 3
        assignment.keeps, assignment.bus = False, Heard(lost=True)
        with pytest.raises(BusUnavailable):
            await assignment.tell(drawn)


async def test_files_are_named_until_what_names_them_is_recorded() -> None:
    files = [FileChange(path=f"{name}.txt", base=None, sha256=name, bytes=1) for name in "aba"]
    gone = FileChange(path="gone.txt", base="before", sha256=None, bytes=0)
    async with asking() as (assignment, _):
        await assignment.send(ResultSubmitted(text="done", files=(*files, gone)))
        assert assignment.names() == ["a", "b"]
        assignment.recorded(2)
        assert assignment.names() == []
