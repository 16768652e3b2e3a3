"""Listing, removing, collecting and moving runs, as people and scripts do it."""

import asyncio
import dataclasses
import json
import signal
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bus.archive import export_run
from bus.codec import decode
from bus.event_log import Owner, RunInfo
from bus.event_logs.sqlite import SqliteEventLog
from bus.events import AgentLeft, AssignmentEnded, Event, GoalAccepted, GoalSubmitted, ResultSubmitted, RunResumed
from bus.file_store import SMALL_BYTES
from bus.references import files_of
from bus.setup import FileRef, RoleSetup, Setup
from bus.store import Store, memory_store, open_store
from swarm.runs.ownership import this_process
from swarm.views.measures import age, size
from swarm.working.work_folder import work_folder
from tests.support.command import ANSWERS, SCENARIO, Ended, in_this_process, serving
from tests.support.events import record
from tests.support.golden import GOLDEN as GOLDEN_LOGS
from tests.swarm.test_cli import CTRL_C, CTRL_D, answered, at, on_a_terminal, running, wait_for

Swarm = Callable[..., Ended]
GOLDEN = GOLDEN_LOGS / "v1.jsonl"
MINE_AND_MORE = '''
from pathlib import Path
from agents.roles.coder import Coder
from swarm import ToolContext, tool
Path("imported").touch()
class Mine(Coder):
    """Writes."""
    def __init__(self, tone=""): ...
@tool(effect="reads")
async def more(context: ToolContext) -> str:
    """Say more."""
    return "more"
'''
SETUP = Setup(name="s", goal="g", roles={"coder": RoleSetup(model="m")})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hello.yaml").write_text(SCENARIO, encoding="utf-8")
    (tmp_path / "answers.yaml").write_text(ANSWERS, encoding="utf-8")
    return tmp_path


@pytest.fixture
def swarm(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Swarm:
    return in_this_process(folder, monkeypatch, capsys)


def begun(swarm: Swarm) -> str:
    """Run the scenario and return the run's id."""
    return str(swarm("run", "hello.yaml", "--json").json["run"])


def listed(swarm: Swarm) -> list[Any]:
    return [json.loads(line) for line in swarm("runs", "--json").out.splitlines()]


def in_store(home: Path, do: Callable[[Store], Any]) -> Any:
    async def main() -> Any:
        async with open_store(home) as store:
            return await do(store)

    return asyncio.run(main())


# runs


def test_runs_are_listed_with_age_size_and_outcome(swarm: Swarm) -> None:
    run = begun(swarm)
    (line,) = swarm("runs").out.splitlines()
    assert line.split()[0].endswith("s")
    assert line.split()[1:3] == ["accepted", run]
    assert " kB " in line
    (told,) = listed(swarm)
    assert told["bytes"] == sum(len(each) for each in swarm("log", run, "--json").out.splitlines())
    assert told["created"] == json.loads(swarm("log", run, "--json", "--to", "1").out)["time"]
    assert told["imported"] is False
    assert not {"files", "subtasks"} & told.keys()


def changed(folder: Path, run: str, *statements: str) -> None:
    """Change the stored records of a run, as nobody should."""
    with closing(sqlite3.connect(folder / ".swarm" / "log.db", isolation_level=None)) as log:
        (number,) = log.execute("SELECT number FROM runs WHERE run = ?", (run,)).fetchone()
        for one in statements:
            log.execute(f"{one} AND run = {number}")


def test_a_run_whose_log_is_damaged_is_told_and_hides_no_other(swarm: Swarm, folder: Path) -> None:
    first, second, third = (begun(swarm) for _ in range(3))
    changed(folder, second, "DELETE FROM events WHERE position = 5")
    told = swarm("runs")
    assert told.status == 3
    assert [line.split()[2] for line in told.out.splitlines()] == [third, first]
    assert f"run '{second}': the event at position 5 is missing" in told.err
    as_json = swarm("runs", "--json")
    assert as_json.status == 3
    above, damaged, below = (json.loads(line) for line in as_json.out.splitlines())
    assert (above["run"], damaged["error"]["kind"], below["run"]) == (third, "damaged", first)


def test_a_run_that_is_removed_while_runs_are_listed_hides_no_other(
    swarm: Swarm, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (begun(swarm) for _ in range(3))
    listing = SqliteEventLog.runs

    async def then_removed(log: SqliteEventLog) -> Sequence[RunInfo]:
        found = await listing(log)
        async with open_store(folder / ".swarm") as store:
            await store.log.remove(second, previous=None)
        return found

    monkeypatch.setattr(SqliteEventLog, "runs", then_removed)
    told = swarm("runs")
    assert (told.status, told.err) == (0, "")
    assert [line.split()[2] for line in told.out.splitlines()] == [third, first]


def test_a_file_that_is_missing_is_not_told_as_if_nothing_had_been_run(swarm: Swarm, folder: Path) -> None:
    run = begun(swarm)
    with closing(sqlite3.connect(folder / ".swarm" / "log.db", isolation_level=None)) as log:
        log.execute("DELETE FROM files")
    ended = swarm("export", run, "run.zip", "--json")
    assert (ended.status, ended.json["error"]["kind"]) == (2, "not_found")
    assert "there is no file" in ended.json["error"]["message"]


def test_a_log_whose_events_were_moved_is_told_as_such_wherever_it_is_looked_at(swarm: Swarm, folder: Path) -> None:
    run = begun(swarm)
    changed(
        folder,
        run,
        "DELETE FROM events WHERE position = 8",
        "UPDATE events SET position = -position WHERE position > 8",
        "UPDATE events SET position = -position - 1 WHERE position < 0",
    )
    for words in (("show", run), ("show", run, "--at", "12"), ("runs",)):
        told = swarm(*words)
        assert told.status == 3
        assert f"run '{run}': the event at position 8 is not the one that was written" in told.err


@pytest.mark.parametrize(
    ("count", "told"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (12_345, "12 kB"), (1_500_000, "1.5 MB"), (10**15, "1000 TB")],
)
def test_a_size_is_told_in_the_unit_that_fits(count: int, told: str) -> None:
    assert size(count) == told


@pytest.mark.parametrize(
    ("since", "told"),
    [
        ("2026-01-02T00:00:00Z", "0s"),
        ("2026-01-01T23:59:01.500Z", "58s"),
        ("2026-01-01T23:00:01Z", "59m"),
        ("2026-01-01T01:00:00+01:00", "24h"),
        ("2025-12-02T00:00:00Z", "31d"),
        ("2027-01-01T00:00:00Z", "?"),
        ("2026-01-01T00:00:00", "?"),
        ("yesterday", "?"),
        ("", "?"),
    ],
)
def test_an_age_is_told_in_one_unit_and_a_bad_time_as_none(since: str, told: str) -> None:
    expected = "1d" if told == "24h" else told
    assert age(since, "2026-01-02T00:00:00Z") == expected


# rm


def test_a_removed_run_is_gone_with_its_folders_and_its_outcome_stays(swarm: Swarm, folder: Path) -> None:
    kept, run = begun(swarm), begun(swarm)
    (folder / ".swarm" / "swarm-work" / run / "deep").mkdir(parents=True)
    ended = swarm("rm", run, "--yes", "--json")
    assert (ended.status, ended.json["removed"]) == (0, run)
    assert [told["run"] for told in listed(swarm)] == [kept]
    assert not (folder / ".swarm" / "swarm-work" / run).exists()
    assert (folder / run / "hello.txt").read_text() == "hello\n"
    again = swarm("rm", run, "--yes", "--json")
    assert (again.status, "swarm runs" in again.json["error"]["message"]) == (2, True)


def test_in_a_script_a_run_is_removed_only_with_yes(swarm: Swarm) -> None:
    run = begun(swarm)
    for more in ((), ("--json",)):
        ended = swarm("rm", run, *more)
        assert ended.status == 2
        assert "--yes" in ended.out + ended.err
    assert len(listed(swarm)) == 1


def test_an_empty_name_means_no_run_also_where_there_is_just_one(swarm: Swarm) -> None:
    run = begun(swarm)
    for words in (("rm", "", "--yes"), ("show", ""), ("resume", ""), ("diff", run, "")):
        ended = swarm(*words, "--json")
        assert (ended.status, "there is no run ''" in ended.out) == (2, True), ended
    assert len(listed(swarm)) == 1


def test_on_a_terminal_a_person_is_asked_before_a_run_is_removed(swarm: Swarm, folder: Path) -> None:
    run = begun(swarm)
    status, shown = on_a_terminal("rm", run, cwd=folder, typed=b"\n")
    assert (status, len(listed(swarm))) == (2, 1)
    assert "[y/N]" in shown
    assert "nothing was removed" in shown
    for typed, expected in ((CTRL_C, 130), (CTRL_D, 2)):
        status, shown = on_a_terminal("rm", run, cwd=folder, typed=typed, after="[y/N]")
        assert (status, len(listed(swarm))) == (expected, 1), shown
    status, shown = on_a_terminal("rm", run, cwd=folder, typed=b"y\n")
    assert (status, listed(swarm)) == (0, []), shown


def test_a_run_that_is_under_way_is_neither_removed_nor_collected_beside(folder: Path, swarm: Swarm) -> None:
    begun(swarm)
    with (
        serving(responder=answered, latency_s=30) as endpoint,
        running("run", "hello.yaml", *at(endpoint.url), cwd=folder) as command,
    ):
        wait_for(command.stderr, "→ coder")
        live = listed(swarm)[0]["run"]
        for words in (("rm", "last", "--yes"), ("gc",)):
            ended = swarm(*words, "--json")
            assert ended.status == 2
            assert f"process {command.pid}" in ended.json["error"]["message"]
            assert live in ended.json["error"]["message"]
        assert swarm("export", "last", "live.zip", "--json").json["events"] >= 3
        assert "interrupted" not in swarm("runs").out
        command.send_signal(signal.SIGKILL)
        command.communicate(timeout=30)
    left, ended = swarm("runs").out.splitlines()
    assert (live in left, "  interrupted  " in left, "interrupted" in ended) == (True, True, False)
    assert [told["interrupted"] for told in listed(swarm)] == [True, False]
    assert swarm("gc").status == 0
    assert swarm("rm", live, "--yes").status == 0, "its owner is gone"
    assert len(listed(swarm)) == 1


@pytest.mark.parametrize("words", [("rm", "last", "--yes"), ("gc",), ("export", "last", "run.zip")])
def test_where_nothing_was_run_nothing_is_made(swarm: Swarm, folder: Path, words: tuple[str, ...]) -> None:
    ended = swarm(*words, "--json")
    assert (ended.status, "nothing has been run here" in ended.json["error"]["message"]) == (2, True)
    assert not (folder / ".swarm").exists()
    assert not (folder / "run.zip").exists()


# gc


def test_files_are_collected_once_no_run_names_them(swarm: Swarm, folder: Path) -> None:
    begun(swarm)
    (folder / "answers.yaml").write_text(ANSWERS.replace('"hello\\n"', f'"{"x" * (2 * SMALL_BYTES)}"'))
    other = begun(swarm)
    nothing = swarm("gc", "--json").json
    assert (nothing["removed"], nothing["kept"]) == (0, 2)
    assert swarm("rm", other, "--yes").status == 0
    (folder / ".swarm" / "swarm-work" / other).mkdir(parents=True)
    planned = swarm("gc", "--dry-run", "--json").json
    assert planned == {
        "removed": 1, "bytes": 2 * SMALL_BYTES, "folders": 1, "freed": 0, "kept": 1, "kept_bytes": 6, "dry_run": True,
    }  # fmt: skip
    assert swarm("gc", "--json").json == planned | {"dry_run": False}
    assert not [path for path in (folder / ".swarm" / "files").rglob("*") if path.is_file()]
    assert not (folder / ".swarm" / "swarm-work" / other).exists()
    assert swarm("gc").out.startswith("removed 0 files (0 B) that no run names; 1 files (6 B) are named")
    assert swarm("show", "last", "--files", "again").status == 0
    assert (folder / "again" / "hello.txt").read_text() == "hello\n"


def test_what_a_fork_needs_of_a_removed_run_is_kept(swarm: Swarm, folder: Path) -> None:
    run = begun(swarm)

    async def fork(store: Store) -> None:
        length = (await store.log.head(run))[0]
        epoch = await store.log.create("fork", this_process(), parent=(run, length))
        await store.log.release("fork", epoch)

    in_store(folder / ".swarm", fork)
    assert swarm("rm", run, "--yes").status == 0
    assert swarm("gc", "--json").json["kept"] == 1
    assert swarm("show", "fork", "--json").json["outcome"] == "accepted"
    assert swarm("rm", "fork", "--yes").status == 0
    assert swarm("gc", "--json").json["removed"] == 1


def test_a_store_that_was_opened_to_begin_a_run_keeps_its_files(swarm: Swarm, folder: Path) -> None:
    """A run stores its workspace before it exists: no list of runs tells that somebody is about to name it."""
    begun(swarm)

    async def starting(store: Store) -> Ended:
        await store.files.put(b"x" * (SMALL_BYTES + 1))
        return await asyncio.to_thread(swarm, "gc", "--json")

    ended = in_store(folder / ".swarm", starting)
    assert (ended.status, "another process is at work here" in ended.json["error"]["message"]) == (2, True)
    assert swarm("gc", "--json").json["removed"] == 1


def test_what_a_process_works_in_stays_also_beside_another_store(swarm: Swarm, folder: Path) -> None:
    begun(swarm)

    async def at_work() -> None:
        async with work_folder(folder / ".swarm", "ada-1") as work:
            (work / "run-elsewhere").mkdir()
            assert (await asyncio.to_thread(swarm, "gc", "--json")).json["folders"] == 0
            assert (work / "run-elsewhere").is_dir()

    asyncio.run(at_work())


def test_files_of_events_that_we_do_not_know_are_kept(swarm: Swarm, folder: Path) -> None:
    begun(swarm)

    async def from_tomorrow(store: Store) -> None:
        names = [await store.files.put(data) for data in (b"one", b"two", b"not named")]
        escaped = f"\\u{ord(names[1][0]):04x}{names[1][1:]}"
        line = f'{{"type":"swarm.Tomorrow.v9","data":{{"kept":["{names[0]}"],"in":{{"deep":"{escaped}"}}}}}}'
        database = store.log._database  # type: ignore[attr-defined]
        await database.write(
            lambda it: it.execute("INSERT INTO events VALUES (NULL, 1, 900, 1, x'00', ?)", (line.encode(),))
        )

    in_store(folder / ".swarm", from_tomorrow)
    assert swarm("gc", "--json").json["removed"] == 1


# export and import


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return what makes the following commands work as on another machine."""
    return lambda: monkeypatch.setenv("SWARM_HOME", "elsewhere")


def test_a_run_moves_to_another_machine(swarm: Swarm, folder: Path, elsewhere: Callable[[], None]) -> None:
    run = begun(swarm)
    told = [swarm(*words).out for words in (("log", run, "--json"), ("log", run))]
    sent = swarm("export", "last", "run.zip", "--json").json
    events = len(told[0].splitlines())
    assert sent == {
        "run": run, "file": "run.zip", "events": events, "head": sent["head"], "files": 1, "bytes": 6,
    }  # fmt: skip
    assert swarm("log", "last", "--check-chain", "--json").json["head"] == sent["head"]
    here = swarm("show", run, "--json").json
    elsewhere()
    came = swarm("import", "run.zip")
    assert came.status == 0
    assert sent["head"] in came.out
    assert f"swarm show {run}" in came.out
    assert [swarm(*words).out for words in (("log", run, "--json"), ("log", run))] == told
    assert swarm("log", "last", "--check-chain", "--json").json["head"] == sent["head"]
    assert swarm("show", run, "--json").json == here | {"folder": None}, "its folder is on the other machine"
    assert [(line["run"], line["imported"]) for line in listed(swarm)] == [(run, True)]
    assert "  imported  " in swarm("runs").out
    assert swarm("show", run, "--files", "files").status == 0
    assert (folder / "files" / "hello.txt").read_text() == "hello\n"
    assert "swarm fork" in swarm("show", run).out
    assert (swarm("gc", "--json").json["kept"], swarm("export", run, "again.zip").status) == (1, 0)
    assert (folder / "again.zip").read_bytes() == (folder / "run.zip").read_bytes()


def test_an_imported_run_goes_on_only_as_a_fork(swarm: Swarm, elsewhere: Callable[[], None]) -> None:
    run = begun(swarm)
    swarm("export", run, "run.zip")
    again = swarm("import", "run.zip", "--json")
    assert (again.status, again.json["error"]["kind"]) == (2, "conflict")
    assert f"swarm rm {run}" in again.json["error"]["message"]
    elsewhere()
    swarm("import", "run.zip")
    ended = swarm("resume", run, "--json", "--set", "limits.tokens=400k")
    assert (ended.status, ended.json["error"]["kind"]) == (2, "usage")
    assert f"swarm fork {run} --at " in ended.json["error"]["message"]
    assert swarm("rm", run, "--yes").status == 0
    assert swarm("import", "run.zip").status == 0


def test_an_imported_run_is_gone_through_and_forked_without_the_folder_it_came_from(
    swarm: Swarm, folder: Path, elsewhere: Callable[[], None]
) -> None:
    (folder / "there" / "material").mkdir(parents=True)
    (folder / "there" / "material" / "notes.md").write_text("as it was")
    (folder / "there" / "coder.md").write_text("You write.")
    written = f"{SCENARIO}workspace: ./material\nroles: {{coder: {{prompt: ./coder.md}}}}\n"
    (folder / "there" / "brief.yaml").write_text(written)
    (folder / "there" / "answers.yaml").write_text(ANSWERS)
    run = swarm("run", "there/brief.yaml", "--json").json["run"]
    swarm("export", run, "run.zip")
    (folder / "there").rename(folder / "gone")
    elsewhere()
    swarm("import", "run.zip")
    assert swarm("replay", run).status == 0
    told = swarm("fork", run, "--at", "1", "--set", f"model=scripted:{folder / 'answers.yaml'}", "--json")
    assert (told.status, told.json.get("outcome")) == (0, "accepted"), told
    assert swarm("show", told.json["run"], "--files", "tree").status == 0
    assert (folder / "tree" / "material" / "notes.md").read_text() == "as it was"


def forged(swarm: Swarm, folder: Path, **named: Any) -> str:
    """Write an archive `run.zip` of a run in whose log the coder has what its scenario does not say; return its id."""
    run = begun(swarm)

    async def write() -> None:
        async with open_store(folder / ".swarm", read_only=True) as here, memory_store() as store:
            first, *rest = [envelope async for envelope in here.log.read(run)]
            assert isinstance(first.event, GoalSubmitted)
            setup = first.event.setup
            roles = {**setup.roles, "coder": setup.roles["coder"].model_copy(update=named)}
            changed = first.event.model_copy(update={"setup": setup.model_copy(update={"roles": roles})})
            epoch = await store.log.create(run, this_process())
            await store.log.append(run, 0, epoch, [dataclasses.replace(first, event=changed), *rest])
            await store.files.put(b"hello\n")
            await export_run(store, run, folder / "run.zip")

    asyncio.run(write())
    return run


@pytest.mark.parametrize("named", [{"uses": "./mine.py:Mine"}, {"tools": ("write_file", "./mine.py:more")}])
def test_code_that_only_the_log_of_an_imported_run_names_is_run_only_once_it_is_trusted(
    swarm: Swarm, folder: Path, elsewhere: Callable[[], None], named: dict[str, Any]
) -> None:
    (folder / "mine.py").write_text(MINE_AND_MORE)
    run = forged(swarm, folder, **named)
    elsewhere()
    assert swarm("import", "run.zip").status == 0
    untrusted = swarm("replay", run, "--json")
    assert untrusted.status == 2
    assert "./mine.py:" in untrusted.json["error"]["message"]
    assert "--trust" in untrusted.json["error"]["message"]
    fork = swarm("fork", run, "--at", "1", "--json").json
    assert fork["outcome"] == "accepted", "the scenario itself names no code"
    assert swarm("replay", fork["run"], "--json").status == 2, "its past is that of the import"
    assert swarm("rm", run, "--yes").status == 0
    assert swarm("replay", fork["run"], "--json").status == 2, "also where that is gone"
    assert not (folder / "imported").exists()
    swarm("import", "run.zip")
    swarm("replay", run, "--json", "--trust")
    assert (folder / "imported").exists()


def test_a_person_is_asked_once_for_the_code_that_a_log_from_elsewhere_names(swarm: Swarm, folder: Path) -> None:
    (folder / "mine.py").write_text(MINE_AND_MORE)
    run = forged(swarm, folder, uses="./mine.py:Mine", options={"tone": "dry"})
    assert (swarm("replay", run).status, swarm("rm", run, "--yes").status) == (0, 0), "a run of one's own is not asked"
    assert swarm("import", "run.zip").status == 0
    status, shown = on_a_terminal("replay", run, cwd=folder, typed=b"n\n")
    assert (status, (folder / "imported").exists()) == (2, False)
    assert f'./mine.py:Mine from {folder}, made with {{"tone": "dry"}}' in shown
    status, shown = on_a_terminal("replay", run, cwd=folder, typed=b"y\n")
    assert (status, (folder / "imported").exists()) == (0, True), shown
    status, shown = on_a_terminal("replay", run, cwd=folder)
    assert (status, "[y/N]" in shown) == (0, False)


@pytest.mark.parametrize("forked", [True, False])
def test_a_run_whose_process_ended_before_it_began_is_not_gone_on_with(
    swarm: Swarm, folder: Path, *, forked: bool
) -> None:
    run = begun(swarm)

    async def cut(store: Store) -> None:
        epoch = await store.log.create("cut", this_process(), parent=(run, 3) if forked else None)
        await store.log.release("cut", epoch)

    in_store(folder / ".swarm", cut)
    for command in ("resume", "cancel"):
        ended = swarm(command, "cut", "--json")
        assert (ended.status, "no event of its own" in ended.json["error"]["message"]) == (2, True)
    assert "swarm resume" not in swarm("show", "cut").out
    assert "`swarm rm cut`" in swarm("show", "cut", "--json").json["reason"]


def test_a_run_imported_while_it_ran_says_how_to_go_on(swarm: Swarm, elsewhere: Callable[[], None]) -> None:
    run = begun(swarm)

    async def cut() -> None:
        async with memory_store() as store:
            epoch = await store.log.create(run, this_process())
            await store.log.append(run, 0, epoch, [record(1, GoalSubmitted(setup=SETUP), run=run)])
            await export_run(store, run, Path("cut.zip"))

    asyncio.run(cut())
    elsewhere()
    assert swarm("import", "cut.zip").status == 0
    told = swarm("show", run, "--json").json
    assert told["outcome"] == "running"
    assert f"swarm fork {run} --at 1" in told["reason"]
    assert "swarm resume" not in swarm("show", run).out


@pytest.mark.parametrize("ends", [1, 2])
def test_an_ended_run_of_a_hub_has_no_folder_and_says_how_to_get_its_files(
    swarm: Swarm, folder: Path, ends: int
) -> None:
    async def run_of_a_hub(store: Store) -> None:
        ref = FileRef(path="report.md", sha256=await store.files.put(b"done"), bytes=4)
        end = GoalAccepted(reason="all is there", files=(ref,))
        events: list[Event] = [GoalSubmitted(setup=SETUP, client="ann/laptop"), end]
        events += [RunResumed(changes={}), end] * (ends - 1)
        epoch = await store.log.create("storm-1", this_process())
        await store.log.append("storm-1", 0, epoch, [record(n, e, run="storm-1") for n, e in enumerate(events, 1)])
        await store.log.release("storm-1", epoch)

    in_store(folder / ".swarm", run_of_a_hub)
    before = sorted(path.name for path in folder.iterdir())
    for command in ("resume", "show"):
        told = swarm(command, "last")
        assert told.status == 0, told
        assert "swarm show storm-1 --files FOLDER" in told.out
        assert swarm(command, "last", "--json").json["folder"] is None
    assert sorted(path.name for path in folder.iterdir()) == before


def test_nothing_is_overwritten_by_an_export(swarm: Swarm, folder: Path) -> None:
    begun(swarm)
    (folder / "taken.zip").write_text("mine")
    ended = swarm("export", "last", "taken.zip", "--json")
    assert (ended.status, ended.json["error"]["kind"]) == (2, "conflict")
    assert (folder / "taken.zip").read_text() == "mine"
    assert swarm("export", "last", "none/run.zip", "--json").json["error"]["kind"] == "storage"


def test_a_file_that_is_no_archive_makes_nothing(swarm: Swarm, folder: Path) -> None:
    for name, kind in (("hello.yaml", "archive"), ("none.zip", "not_found"), (".", "archive")):
        ended = swarm("import", name, "--json")
        assert (ended.status, ended.json["error"]["kind"]) == (2, kind)
    assert not (folder / ".swarm").exists()


def hostile(path: Path, *events: Event) -> None:
    """Write an archive of a log that no orchestrator would have written."""
    path.unlink(missing_ok=True)

    async def main() -> None:
        async with memory_store() as store:
            epoch = await store.log.create("run", Owner("h", 1, "b"))
            await store.files.put(b"bytes")
            log = [record(position, event) for position, event in enumerate(events, 1)]
            await store.log.append("run", 0, epoch, log)
            await export_run(store, "run", path)

    asyncio.run(main())


BYTES = FileRef(path="x", sha256="277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9", bytes=5)

IMPOSSIBLE: list[tuple[Event, ...]] = [
    (AgentLeft(agent="a", why="w"),),
    (GoalSubmitted(setup=SETUP), AssignmentEnded(lease="none", why="w")),
    (GoalSubmitted(setup=SETUP), ResultSubmitted(text="from nobody")),
]


@pytest.mark.parametrize("events", IMPOSSIBLE, ids=lambda events: type(events[-1]).__name__)
def test_a_log_that_adds_up_to_no_run_is_refused(swarm: Swarm, folder: Path, events: tuple[Event, ...]) -> None:
    """Else one import would break every command that shows runs."""
    hostile(folder / "bad.zip", *events)
    ended = swarm("import", "bad.zip", "--json")
    assert (ended.status, ended.json["error"]["kind"]) == (2, "archive")
    assert type(events[-1]).__name__ in ended.json["error"]["message"]
    assert not (folder / ".swarm").exists()


@pytest.mark.parametrize("path", ["../../evil", "/etc/evil", ".git/hooks/pre-commit", "con", "a\nb"])
def test_a_path_that_leads_out_is_never_written(swarm: Swarm, folder: Path, path: str) -> None:
    out = BYTES.model_copy(update={"path": path})
    hostile(
        folder / "evil.zip",
        GoalSubmitted(setup=SETUP, workspace=(out,), out="/etc\0"),
        GoalAccepted(reason="\x1b[2J", files=(out,)),
    )
    assert swarm("import", "evil.zip").status == 0
    assert "\x1b" not in swarm("show", "last").out + swarm("runs").out + swarm("log", "last").out
    ended = swarm("show", "last", "--files", "made", "--json")
    assert (ended.status, ended.json["error"]["kind"]) == (3, "missing_part")
    assert not (folder / "made").exists()
    assert not list(folder.rglob("evil"))
    assert not (folder.parent / "evil").exists()


def test_every_kind_of_event_may_be_hostile_and_is_told_as_such(swarm: Swarm, folder: Path) -> None:
    """Whatever follows on the beginning of a run: it is taken in and can be shown, or refused as an archive."""
    events: list[Any] = [decode(line).event for line in GOLDEN.read_bytes().splitlines()]
    taken = []
    for event in events:
        if [*files_of(event)]:
            continue  # the bytes are not there to be exported
        hostile(folder / "x.zip", GoalSubmitted(setup=SETUP), event)
        ended = swarm("import", "x.zip", "--json")
        assert ended.status in {0, 2}, (event, ended)
        if ended.status == 0:
            taken.append(event)
            for words in (("runs",), ("show", "run"), ("log", "run")):
                assert swarm(*words).status == 0, (event, words)
            swarm("rm", "run", "--yes")
    assert len(events) > len(taken) > 5
