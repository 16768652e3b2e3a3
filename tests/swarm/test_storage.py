"""What a person gets of storage that fails: the run is paused, says how to go on, and pays for nothing in vain."""

import errno
import os
import re
from pathlib import Path
from typing import Any, NoReturn

import pytest

from agents.files import plain_file
from agents.files.project_folder import ProjectFolder
from agents.roles.coder import Coder
from bus.database_file import connect
from bus.errors import Damaged
from bus.event_log import RunInfo
from bus.event_logs.sqlite import SqliteEventLog
from bus.events import RunPaused, ToolReturned, WorkFailed
from bus.file_store import SMALL_BYTES
from bus.store import open_store
from swarm import launch
from swarm.errors import MissingPart, UsageError
from swarm.runs.finding import refuse_running
from swarm.runs.ownership import carrying_on, this_process
from tests.support.endpoint import Answer, Body, ChatEndpoint, Reply
from tests.support.faulty_disk import Fault, FaultyDisk
from tests.support.journey import store_on
from tests.support.runs import layers, player, results, resume, scenario, settings, start, story

PLAN = layers(1, 2)
ACCEPT = [{"file": "t0-0.txt"}]


def no_room(*_: Any, **__: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def none_free(*_: Any, **__: Any) -> NoReturn:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def test_a_full_disk_is_one_error_that_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FaultyDisk()
    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        disk.fail(Fault.FULL, after=60)
        monkeypatch.setattr(launch, "open_store", store_on(disk.connect))
        with pytest.raises(MissingPart, match=r"is paused: .*the disk is full: free some space.*`swarm resume storm-"):
            await start(tmp_path, scenario(endpoint, accept=ACCEPT))
        disk.mend()
        assert (await resume(tmp_path)).outcome == "accepted", "in the process that it failed in"


async def test_a_run_that_could_not_begin_is_not_to_be_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FaultyDisk()
    async with SqliteEventLog(tmp_path / "home"):
        pass

    def fail_later(uri: str) -> Any:
        opened = disk.connect(uri)
        disk.fail(Fault.FULL, after=6)  # room for the run's own row, not for its first event
        return opened

    async with ChatEndpoint(player(PLAN)) as endpoint:
        monkeypatch.setattr(launch, "open_store", store_on(fail_later))
        with pytest.raises(MissingPart, match=r"did not begin: .*the disk is full.*run the scenario again"):
            await start(tmp_path, scenario(endpoint, accept=ACCEPT))
        assert endpoint.count == 0


async def test_a_run_is_carried_on_once_in_a_process(tmp_path: Path) -> None:
    with carrying_on("a-run"):
        with pytest.raises(UsageError, match="by this very process already"), carrying_on("a-run"):
            pass
        with pytest.raises(UsageError, match="by this very process already"):
            async with open_store(tmp_path / "home") as store:
                await refuse_running(store, RunInfo("a-run", 1, 1, 1, this_process(), ""), settings(tmp_path))
        with carrying_on("another"):
            pass
    with carrying_on("a-run"):
        pass


async def test_a_disk_too_full_for_an_attempt_s_files_pauses_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No model is told of it: it could mend nothing, and would be paid for trying."""
    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        with monkeypatch.context() as full:
            full.setattr(plain_file, "put", no_room)
            outcome = await start(tmp_path, scenario(endpoint, accept=ACCEPT))
        assert (outcome.outcome, outcome.exit_status) == ("paused", 3)
        assert "No space left on device: free some space" in outcome.reason
        told = await story(tmp_path)
        assert not told.of(WorkFailed, ToolReturned)
        assert len(told.of(RunPaused)) == 1
        assert (await resume(tmp_path)).outcome == "accepted"


@pytest.mark.parametrize(("owner", "name"), [(plain_file, "put"), (ProjectFolder, "write"), (Coder, "handle")])
async def test_a_moment_without_a_free_descriptor_pauses_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        with monkeypatch.context() as busy:
            busy.setattr(owner, name, none_free)
            outcome = await start(tmp_path, scenario(endpoint, accept=ACCEPT))
        assert (outcome.outcome, outcome.exit_status) == ("paused", 3)
        assert "Too many open files: raise `ulimit -n`" in outcome.reason
        assert not (await story(tmp_path)).of(WorkFailed, ToolReturned)
        assert (await resume(tmp_path)).outcome == "accepted"


async def test_files_that_cannot_be_handed_over_are_handed_over_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = plain_file.put

    def no_room_outside(parent: int, *args: Any, **options: Any) -> None:
        if "/swarm-work/" not in os.readlink(f"/proc/self/fd/{parent}"):
            no_room()
        put(parent, *args, **options)

    async with ChatEndpoint(player(PLAN), keep=200) as endpoint:
        with monkeypatch.context() as full:
            full.setattr(plain_file, "put", no_room_outside)
            outcome = await start(tmp_path, scenario(endpoint, accept=ACCEPT))
        assert (outcome.outcome, outcome.exit_status, outcome.folder) == ("accepted", 3, None)
        assert re.search(r"out cannot be written: .*No space left.*`swarm resume storm-", outcome.not_written)
        asked = endpoint.count
        outcome = await resume(tmp_path)
        assert (outcome.outcome, endpoint.count) == ("accepted", asked)
        assert sorted(path.name for path in Path(outcome.folder or "").iterdir()) == ["t0-0.txt", "t0-1.txt"]


async def test_a_stored_file_that_is_lost_pauses_the_run(tmp_path: Path) -> None:
    """The attempts that follow would find the same."""
    plan = [{"id": "it", "role": "coder", "do": "TASK it: go", "accept": [{"file": "it.txt"}]}]
    (tmp_path / "notes.md").write_bytes(b"x" * (SMALL_BYTES + 1))

    def respond(body: Body) -> Reply:
        if not results(body):
            for path in (tmp_path / "home" / "files").glob("*/*"):
                path.unlink()
        return Answer(calls=[("read_file", {"path": "notes.md"})])

    async with ChatEndpoint(respond) as endpoint:
        outcome = await start(
            tmp_path, scenario(endpoint, plan=plan, workspace="notes.md", accept=[{"file": "it.txt"}])
        )
    assert outcome.outcome == "paused"
    assert "'notes.md' cannot be laid out: there is no file" in outcome.reason
    assert endpoint.count == 1


async def test_a_damaged_log_stops_a_run_with_its_place(tmp_path: Path) -> None:
    async with ChatEndpoint(player(PLAN)) as endpoint:
        await start(tmp_path, scenario(endpoint, accept=ACCEPT))
    path = tmp_path / "home" / "log.db"
    connection = connect(path.as_uri())
    connection.execute("UPDATE events SET line = zeroblob(20) WHERE position = 9")
    connection.close()
    with pytest.raises(Damaged, match=r"run 'storm-.*': the event at position 9 cannot be read"):
        await resume(tmp_path)
