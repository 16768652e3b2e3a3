"""What a hub answers its clients, over a bus of one process."""

import argparse
import asyncio
import base64
import datetime as dt
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bus.envelope import Stamp
from bus.errors import BusUnavailable
from bus.event_log import Owner
from bus.events import CancelAsked, Event, GoalAccepted, GoalFailed, GoalSubmitted, RunPaused
from bus.file_store import MemoryFileStore
from bus.pubsub import Bus, Note
from bus.setup import FileRef, Limits, RoleSetup, Setup
from bus.store import Store, memory_store, open_store
from swarm.commands.following import followed
from swarm.errors import MissingPart, UsageError
from swarm.files.rights import Rights
from swarm.files.shelf import Shelf
from swarm.files.uploads import SILENT_S
from swarm.hubs.client_files import GONE_S, ClientFiles
from swarm.hubs.desk import Desk
from swarm.hubs.hub import Hub
from swarm.hubs.hub_config import HubConfig
from swarm.orchestration.terms import Terms
from swarm.runs.folding import fold
from swarm.runs.ownership import this_process
from swarm.runtime import new_id
from swarm.scenario.file import LARGEST_LIMITS
from swarm.scenario.model import Scenario
from swarm.settings import Settings
from swarm.submissions.client import Client
from swarm.submissions.packing import SUBMITTING, pack
from swarm.submissions.submission import Submission
from tests.support.hubs import beside
from tests.support.wired import WiredTransport

ANN = "ann/cli-1"
RUN = "run"
GOAL = Setup(name="example", goal="Try it.", roles={"planner": RoleSetup(model="scripted:none")})
PAUSED = RunPaused(reason="stopped by ann/cli-1", kind="person")


@asynccontextmanager
async def a_desk(store: Store, transport: WiredTransport, *, name: str = "h1", **more: Any) -> AsyncIterator[Desk]:
    """Have a hub at work whose clients bring their files to memory."""
    rights = Rights()
    hub = Hub(name, Bus(transport), store, this_process(), Terms(), announce=print)
    shelf = Shelf(MemoryFileStore(), rights, MemoryFileStore(), under="run", **more)
    desk = Desk(hub, HubConfig(), Settings(home=Path("/nowhere")), ClientFiles(shelf, rights))
    async with beside(desk.run()), beside(hub.run(desk.started)):
        while not hub.present:
            await asyncio.sleep(0.01)
        yield desk


@asynccontextmanager
async def a_client(transport: WiredTransport, name: str = ANN) -> AsyncIterator[Client]:
    client = Client(Bus(transport), name)
    async with beside(client.run()), beside(client.courier.run()):
        await client.ready()
        yield client


SECONDS = itertools.count()


async def recorded(store: Store, run: str, *events: Event, client: str = ANN, owner: Owner | None = None) -> None:
    """Record a run a second after the one before; that nobody carries on, or its owner."""
    began = (dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + dt.timedelta(seconds=next(SECONDS))).isoformat()
    stamp = Stamp("/swarm/hub/h0", new_id, lambda: began)
    epoch = await store.log.create(run, owner or this_process())
    said = [GoalSubmitted(setup=GOAL, client=client), *events]
    await store.log.append(run, 0, epoch, [stamp(run, event, sequence=at) for at, event in enumerate(said, 1)])
    if owner is None:
        await store.log.release(run, epoch)


@pytest.mark.parametrize(
    ("kind", "fields", "why"),
    [
        ("lines", {"from": 2**63}, "from: a position is"),
        ("lines", {"from": "1"}, "from: a position is"),
        ("resume", {"in_doubt": []}, "in_doubt: one of retry, skip, fail"),
        ("resume", {"in_doubt": "perhaps"}, "in_doubt: one of retry, skip, fail"),
        ("resume", {"limits": {"time_ms": 2**60}}, f"limits.time_ms: from 1 to {LARGEST_LIMITS['time_ms']}"),
        ("resume", {"limits": {"money": 2**63 - 1}}, "limits.money: from 1 to"),
        ("resume", {"limits": {"parallel": 0}}, "limits.parallel: from 1 to 10000"),
        ("resume", {"limits": ["tokens"]}, "limits: only"),
    ],
)
async def test_what_a_call_cannot_mean_is_refused_and_recorded_nowhere(
    tmp_path: Path, kind: str, fields: dict[str, Any], why: str
) -> None:
    async with open_store(tmp_path) as store, WiredTransport() as transport:
        await recorded(store, RUN, PAUSED)
        async with a_desk(store, transport), a_client(transport) as client:
            with pytest.raises(UsageError, match=why):
                await client.call(kind, hub="h1", run=RUN, **fields)
            assert (await client.call("lines", hub="h1", run=RUN)).fields["length"] == 2


async def test_a_limit_beyond_what_a_number_holds_elsewhere_is_refused() -> None:
    async with memory_store() as store, WiredTransport() as transport:
        await recorded(store, RUN, PAUSED)
        async with a_desk(store, transport) as desk:
            with pytest.raises(UsageError, match="from 1 to"):  # no client of ours can say it
                await desk.resume(ANN, {"run": RUN, "limits": {"time_ms": 10**400}})
            await desk.resume(ANN, {"run": RUN, "limits": dict(LARGEST_LIMITS), "in_doubt": None})
        state = await fold(store.log, RUN)
        assert state.limits == Limits(**LARGEST_LIMITS)


async def test_a_call_that_breaks_the_hubs_own_code_is_refused_and_the_next_is_answered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with memory_store() as store, WiredTransport() as transport:
        await recorded(store, RUN, PAUSED)
        async with a_desk(store, transport), a_client(transport) as client:
            with monkeypatch.context() as patch:
                patch.setattr("swarm.hubs.desk.doubts", lambda *_, **__: 1 / 0)
                with pytest.raises(UsageError, match="cannot be answered"):
                    await client.call("resume", hub="h1", run=RUN, in_doubt="skip")
            assert "ZeroDivisionError" in caplog.text
            await client.call("resume", hub="h1", run=RUN)


async def test_a_part_of_a_file_that_breaks_the_hubs_own_code_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with memory_store() as store, WiredTransport() as transport:
        await recorded(store, RUN, PAUSED)
        async with a_desk(store, transport) as desk, a_client(transport) as client:
            monkeypatch.setattr(Shelf, "answer", lambda *_: 1 / 0)
            asked = asyncio.create_task(client.files("h1", RUN).get("ab" * 32))
            async with asyncio.timeout(10):
                while not desk.dropped:
                    await asyncio.sleep(0.01)
            asked.cancel()
            assert "ZeroDivisionError" in caplog.text
            await client.call("resume", hub="h1", run=RUN)


async def test_a_run_is_found_among_those_of_others_however_many_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.hubs.desk.MOST_LISTED", 3)
    async with memory_store() as store, WiredTransport() as transport:
        for number in range(2):
            await recorded(store, f"first-{number}", PAUSED)
        for number in range(5):
            await recorded(store, f"bobs-{number}", PAUSED, client="bob/cli-2")
        async with a_desk(store, transport), a_client(transport, "ann/cli-9") as client:
            assert await client.find("first-0") == "first-0"
            assert await client.find("last") == "first-1"
            with pytest.raises(UsageError, match="could be 2 runs"):
                await client.find("first")
            with pytest.raises(UsageError, match=r"there is no run 'bobs-1' that you have submitted here \(first-1"):
                await client.find("bobs-1")
            with pytest.raises(UsageError, match="there is no run ''"):
                await client.find("")


async def test_who_gets_no_answer_to_a_submission_is_told_that_the_run_may_begin_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("swarm.submissions.client.ANSWER_S", 0.2)
    scenario = Scenario.from_dict({"goal": "Try it."}, around=SUBMITTING)
    submission, _ = pack(scenario, run="brief-1", client=ANN, home=Path("/nowhere"))

    async def no_files(*_: str) -> None:
        raise AssertionError

    async with WiredTransport() as transport, a_client(transport) as client:
        with pytest.raises(MissingPart, match="no hub is on this bus"):
            await client.submit(submission, no_files)
        client.hubs["h1"] = ""
        asyncio.get_running_loop().call_later(0.1, client.hubs.clear)
        with pytest.raises(MissingPart, match=r"may still begin it.*swarm show brief-1 --bus URL"):
            await client.submit(submission, no_files)


async def test_the_outcome_of_a_followed_run_is_told_also_where_its_files_do_not_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(*_: object) -> Any:
        raise BusUnavailable("no hub answers.")

    monkeypatch.setattr(Client, "files", gone)
    ended = GoalAccepted(reason="it is good", files=(FileRef(path="report.md", sha256="0" * 64, bytes=3),))
    args = argparse.Namespace(bus="mqtt://127.0.0.1", quiet=True, json=False)
    async with memory_store() as store, WiredTransport() as transport:
        await recorded(store, RUN, ended)
        async with a_desk(store, transport), a_client(transport) as client:
            status = await followed(args, client, RUN, tmp_path / "out")
    told = capsys.readouterr()
    assert (status, told.out.splitlines()[0].split()) == (3, ["accepted", RUN])
    assert "`swarm show run --files FOLDER --bus mqtt://127.0.0.1` fetches them" in told.err


async def test_a_run_that_is_not_among_the_newest_is_found_by_its_whole_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.hubs.desk.MOST_LISTED", 3)
    async with memory_store() as store, WiredTransport() as transport:
        for number in (1, 10, 11, 12):
            await recorded(store, f"run-{number}", PAUSED)
        async with a_desk(store, transport), a_client(transport) as client:
            assert len((await client.call("list", hub="h1")).fields["runs"]) == 3
            assert await client.find("run-1") == "run-1", "and it is not taken for the beginning of another"


async def test_the_last_run_is_the_newest_of_all_hubs() -> None:
    async with memory_store() as one, memory_store() as other, WiredTransport() as transport:
        for store, run in ((one, "old"), (other, "new"), (one, "newest"), (other, "removed-and-submitted-anew")):
            await recorded(store, run, PAUSED)
        async with a_desk(one, transport, name="a"), a_desk(other, transport, name="b"), a_client(transport) as client:
            assert await client.find("last") == "removed-and-submitted-anew"
            await other.log.remove("removed-and-submitted-anew", previous=None)
            assert await client.find("last") == "newest"
            assert client.hub_of("newest") == "a"
            await recorded(other, "removed-and-submitted-anew", PAUSED, client="bob/cli-2")
            assert await client.find("last") == "newest", "it is somebody else's now"


@pytest.mark.parametrize(
    ("kind", "end", "why"),
    [
        ("pause", PAUSED, "run is not running: it is paused"),
        ("pause", GoalAccepted(reason="-"), "it has ended, accepted"),
        ("cancel", GoalAccepted(reason="-"), "it has ended, accepted"),
        ("pause", GoalFailed(reason="-", kind="cancelled"), "it has ended, not accepted"),
        ("cancel", GoalFailed(reason="-", kind="cancelled"), "it has ended, not accepted"),
    ],
)
async def test_who_pauses_or_cancels_a_run_that_is_not_running_is_told_how_it_stands(
    kind: str, end: Event, why: str
) -> None:
    async with memory_store() as store, WiredTransport() as transport:
        await recorded(store, RUN, end)
        async with a_desk(store, transport), a_client(transport) as client:
            with pytest.raises(UsageError, match=why):
                await client.call(kind, run=await client.find(RUN))


@pytest.mark.parametrize("hubs", [1, 2])
@pytest.mark.parametrize("kind", ["person", "doubt"])
async def test_a_paused_run_is_cancelled_by_one_hub_without_going_on(kind: str, hubs: int) -> None:
    async with memory_store() as store, WiredTransport() as transport, AsyncExitStack() as stack:
        await recorded(store, RUN, PAUSED.model_copy(update={"kind": kind}))
        for number in range(hubs):
            await stack.enter_async_context(a_desk(store, transport, name=f"h{number}"))
        client = await stack.enter_async_context(a_client(transport))
        answer = await client.call("cancel", run=await client.find(RUN))
        assert answer.kind == "done"
        log = [one.event async for one in store.log.read(RUN)]
        assert [type(one) for one in log] == [GoalSubmitted, RunPaused, CancelAsked, GoalFailed]
        assert log[-1] == GoalFailed(reason=f"cancelled by {ANN}", kind="cancelled")
        async with asyncio.timeout(5):
            while (await store.log.info(RUN)).owner is not None:
                await asyncio.sleep(0.01)
        with pytest.raises(UsageError, match="it has ended, not accepted"):
            await client.call("cancel", run=RUN)


@pytest.mark.parametrize("kind", ["pause", "cancel", "resume"])
async def test_who_speaks_of_a_run_that_met_an_error_of_its_hub_is_told_so(kind: str) -> None:
    async with memory_store() as store, WiredTransport() as transport:
        await recorded(store, RUN, owner=this_process())
        async with a_desk(store, transport) as desk, a_client(transport) as client:
            desk.hub.broken[RUN] = None
            with pytest.raises(UsageError, match="run cannot be carried on: hub h1 met an error"):
                await client.call(kind, run=await client.find(RUN))


async def test_an_accepted_run_is_not_reopened_by_raised_limits() -> None:
    async with memory_store() as store, WiredTransport() as transport:
        await recorded(store, RUN, GoalAccepted(reason="-"))
        async with a_desk(store, transport), a_client(transport) as client:
            with pytest.raises(UsageError, match="run was accepted"):
                await client.call("resume", run=await client.find(RUN), limits={"tokens": 10**9})


async def test_a_hub_says_nothing_of_a_run_that_is_with_another_or_not_of_its_store() -> None:
    async with memory_store() as store, WiredTransport() as transport:
        await recorded(store, RUN, owner=Owner("elsewhere", 1, "now"))
        await recorded(store, "bobs", PAUSED, client="bob/cli-2")
        async with a_desk(store, transport) as desk:
            for run in (RUN, "bobs", "none"):
                assert await desk.pause(ANN, {"run": run}) == ("", {})
            with pytest.raises(UsageError, match="run is not running at this hub"):
                await desk.pause(ANN, {"run": RUN, "hub": "h1"})


class Clock:
    """Of a shelf, which is swept often."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("swarm.hubs.client_files.SWEPT_S", 0.02)
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def packed(folder: Path, run: str = RUN) -> Submission:
    """Return a submission with one file, and what is in that."""
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in" / "notes.md").write_bytes(b"notes")
    written = {"goal": "Try it.", "workspace": "in"}
    submission, _ = pack(
        Scenario.from_dict(written, folder=folder, around=SUBMITTING), run=run, client=ANN, home=folder
    )
    return submission


def brings(run: str, data: bytes, size: int) -> Note:
    chunk = base64.b64encode(data).decode()
    sha256 = hashlib.sha256(data).hexdigest()
    return Note("put", {"run": run, "sha256": sha256, "bytes": size, "offset": 0, "chunk": chunk})


async def test_what_a_client_left_half_brought_and_its_right_to_bring_more_go_once_it_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = Clock(monkeypatch)
    async with (
        memory_store() as store,
        WiredTransport() as transport,
        a_desk(store, transport, clock=clock) as desk,
    ):
        submission = packed(tmp_path).model_dump(mode="json")
        assert (await desk.submit(ANN, {"submission": submission}))[0] == "wants"
        await desk._file(ANN, brings(RUN, b"notes", 5))
        await desk._file(ANN, brings(RUN, b"half", 8))
        assert desk.files.shelf.uploads.held == 4
        clock.now += SILENT_S + 1
        await until(lambda: not desk.files.shelf.uploads.held)
        assert desk.files.shelf.brought(ANN, RUN), "it may be about to bring more"
        await desk._file(ANN, brings(RUN, b"more", 8))
        clock.now += GONE_S
        await asyncio.sleep(0.1)
        assert desk.files.rights.room(ANN, RUN), "it was heard meanwhile"
        clock.now += 1
        await until(
            lambda: not desk.files.rights.room(ANN, RUN) and not desk.files.shelf._accounts and not desk.files._awaited
        )
        assert (await desk.submit(ANN, {"submission": submission}))[0] == "wants", "and it may come back"


async def test_of_submissions_that_wait_for_files_the_oldest_lose_their_rights_where_they_are_too_many(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("swarm.hubs.client_files.MOST_WAITING", 2)
    clock = Clock(monkeypatch)
    async with memory_store() as store, WiredTransport() as transport, a_desk(store, transport, clock=clock) as desk:
        for number in range(4):
            await desk.submit(ANN, {"submission": packed(tmp_path, f"run-{number}").model_dump(mode="json")})
            await desk._file(ANN, brings(f"run-{number}", b"notes", 5))
        assert [desk.files.rights.room(ANN, f"run-{number}") > 0 for number in range(4)] == [False, False, True, True]
        await until(lambda: len(desk.files.shelf._accounts) == 2)


async def test_a_client_that_took_the_files_of_an_outcome_has_its_right_to_them_until_it_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    async with memory_store() as store, WiredTransport() as transport, a_desk(store, transport, clock=clock) as desk:
        sha256 = await desk.files.shelf.files.put(b"made")
        made = FileRef(path="made.txt", sha256=sha256, bytes=4)
        await recorded(store, RUN, GoalAccepted(reason="-", files=(made,)))
        async with a_client(transport) as client:
            for _ in range(2):
                assert await client.files("h1", RUN).get(sha256) == b"made"
                assert desk.files.rights.may_get(ANN, RUN, sha256)
                clock.now += GONE_S + 1
                await until(lambda: not desk.files.rights.may_get(ANN, RUN, sha256) and not desk.files.shelf._accounts)
                client.courier.cache = MemoryFileStore()


async def until(holds: Callable[[], bool], within_s: float = 10) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.01)
