"""Whole runs in which two subtasks change one file at the same time."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from bus.envelope import Envelope
from bus.events import (
    FilesConflicted,
    FilesMerged,
    MergeTried,
    ResultSubmitted,
    ReviewGiven,
    SubtaskAssigned,
    ToolReturned,
)
from bus.store import open_store
from swarm.core import meetings
from swarm.core.apply import apply
from swarm.core.state import RunState
from swarm.orchestration.merging import compare
from swarm.replay import replay
from swarm.runs.outcome import Outcome
from tests.support.endpoint import Answer, Body, ChatEndpoint, Reply
from tests.support.runs import player, results, resume, scenario, start, story, subtask_of

PATH = "shared.txt"
LINES = [f"line {number}\n" for number in range(10)]
Lines = Mapping[int, str]


class Crashed(BaseException):
    """The process is gone, as far as the run can tell."""


def text(**lines: str) -> str:
    """Return the workspace's file with some lines changed: `l3="x"` is line 3."""
    return "".join(lines.get(f"l{number}", line.rstrip("\n")) + "\n" for number, line in enumerate(LINES))


def plan(*names: str, needs: Mapping[str, list[str]] | None = None) -> list[dict[str, Any]]:
    needs = needs or {}
    return [
        {"id": name, "role": "coder", "do": f"TASK {name}: edit {PATH}", "needs": needs.get(name, [])} for name in names
    ]


def written(body: Body) -> bool:
    return any(result.startswith(("Wrote", "Changed", "Edited", "Replaced")) for result in results(body))


def rejected(body: Body) -> bool:
    return "An earlier attempt was not accepted" in str(body["messages"])


def write(content: str, path: str = PATH) -> Answer:
    return Answer(calls=[("write_file", {"path": path, "content": content})])


def read(path: str) -> Answer:
    return Answer(calls=[("read_file", {"path": path})])


async def run(tmp_path: Path, endpoint: ChatEndpoint, *, on_event: Any = None, **more: Any) -> Outcome:
    (tmp_path / PATH).write_text("".join(LINES))
    return await start(
        tmp_path, scenario(endpoint, workspace=PATH, **{"accept": [{"file": PATH}]} | more), on_event=on_event
    )


def made(outcome: Outcome) -> str:
    return (Path(outcome.folder or "") / PATH).read_text()


def own_line(_role: str, subtask: str, body: Body) -> Reply | None:
    """`a` changes line 1, `b` line 4, `c` line 7."""
    number = {"a": 1, "b": 4, "c": 7}.get(subtask)
    return write(text(**{f"l{number}": f"by {subtask}"})) if number and not written(body) else None


async def test_changes_apart_are_merged_and_nobody_is_asked_again(tmp_path: Path) -> None:
    async with ChatEndpoint(player(play=own_line)) as endpoint:
        outcome = await run(tmp_path, endpoint, plan=plan("a", "b", "c"))
    assert outcome.outcome == "accepted", outcome.reason
    assert made(outcome) == text(l1="by a", l4="by b", l7="by c")
    told = await story(tmp_path)
    assert Counter(e.subtask.id for e in told.of(SubtaskAssigned)) == {"a": 1, "b": 1, "c": 1}
    assert [event.merged for event in told.of(FilesMerged)] == [(), (PATH,), (PATH,)]
    assert len(told.of(MergeTried)) == 2
    assert not told.of(FilesConflicted)


async def test_who_needs_merged_results_finds_the_merged_file(tmp_path: Path) -> None:
    def play(role: str, subtask: str, body: Body) -> Reply | None:
        if subtask != "d":
            return own_line(role, subtask, body)
        return None if written(body) else write(results(body)[0] + "by d\n") if results(body) else read(PATH)

    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await run(tmp_path, endpoint, plan=plan("a", "b", "d", needs={"d": ["a", "b"]}))
    assert outcome.outcome == "accepted", outcome.reason
    assert made(outcome) == text(l1="by a", l4="by b") + "by d\n"
    assert [event.merged for event in (await story(tmp_path)).of(FilesMerged)] == [(), (PATH,), ()]


async def test_the_later_of_two_that_clash_finds_both_versions_and_its_own_is_no_part_of_its_result(
    tmp_path: Path,
) -> None:
    own = f".swarm/yours/{PATH}"

    def play(_role: str, subtask: str, body: Body) -> Reply | None:
        if not subtask or written(body):
            return None
        if not rejected(body):
            return write(text(l4=f"by {subtask}", l8=f"by {subtask}" if subtask == "b" else "line 8"))
        seen = results(body)
        if len(seen) < 2:
            return read([PATH, own][len(seen)])
        theirs, mine = ([line for line in one.splitlines() if line.startswith("by ")] for one in seen)
        return write(text(l4=" and ".join([*theirs[:1], *mine[:1]])))

    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await run(tmp_path, endpoint, plan=plan("a", "b"), limits={"parallel": 2})
    assert outcome.outcome == "accepted", outcome.reason
    told = await story(tmp_path)
    (conflict,) = told.of(FilesConflicted)
    later, first = conflict.subtask, conflict.others[0]
    assert {later, first} == {"a", "b"}
    assert made(outcome) == text(l4=f"by {first} and by {later}")
    again = told.of(SubtaskAssigned, subject=later)[1]
    assert f"{PATH}: changed meanwhile by {first}" in again.feedback[0]
    assert "both changed it at line 5" in again.feedback[0]
    assert own in again.feedback[1]
    reads = [e.output for e in told.of(ToolReturned, subject=later) if e.tool == "read_file" and e.attempt == 2]
    assert [f"by {first}" in reads[0], f"by {later}" in reads[1]] == [True, True]
    assert [change.path for change in told.of(ResultSubmitted, subject=later)[1].files] == [PATH]
    assert [ref.path for ref in outcome.files] == [PATH]


@pytest.mark.parametrize(
    ("one", "other"),
    [("README.md", "readme.md"), ("config", "config/settings.ini"), ("Docs/one.md", "docs/other.md")],
    ids=["in case alone", "file and folder", "folders in case alone"],
)
async def test_files_that_cannot_lie_side_by_side_meet_as_those_of_one_path_do(
    tmp_path: Path, one: str, other: str
) -> None:
    paths = {"a": one, "b": other}

    def play(_role: str, subtask: str, body: Body) -> Reply | None:
        if not subtask or written(body):
            return None
        if not rejected(body):
            return write(f"by {subtask}\n", paths[subtask])
        return write("beside it\n", "another.txt") if results(body) else read(f".swarm/yours/{paths[subtask]}")

    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await run(tmp_path, endpoint, plan=plan("a", "b"))
    assert outcome.outcome == "accepted", outcome.reason
    told = await story(tmp_path)
    (conflict,) = told.of(FilesConflicted)
    later, first = conflict.subtask, *conflict.others
    assert {later, first} == {"a", "b"}
    assert conflict.paths == (paths[first],)
    again = told.of(SubtaskAssigned, subject=later)[1]
    assert f"{paths[first]}: changed meanwhile by {first}" in again.feedback[0]
    assert f"{paths[later]}: it cannot lie beside '{paths[first]}'" in again.feedback[0]
    found = [e.output for e in told.of(ToolReturned, subject=later) if e.tool == "read_file"]
    assert f"by {later}" in found[0], "what it had made is there to be read"
    assert sorted(ref.path for ref in outcome.files) == sorted([paths[first], "another.txt"])


async def test_of_two_files_that_met_the_one_that_could_be_merged_is_in_place(tmp_path: Path) -> None:
    other = "other.txt"

    def play(_role: str, subtask: str, body: Body) -> Reply | None:
        if not subtask:
            return None
        wrote = sum(result.startswith("Wrote") for result in results(body))
        if rejected(body):
            if wrote:
                return None
            return write("both\n", other) if results(body) else read(PATH)
        if wrote == 2:
            return None
        line = {"a": 1, "b": 8}[subtask]
        return write(text(**{f"l{line}": f"by {subtask}"})) if wrote else write(f"{subtask}\n", other)

    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await run(tmp_path, endpoint, plan=plan("a", "b"))
    assert outcome.outcome == "accepted", outcome.reason
    told = await story(tmp_path)
    (conflict,) = told.of(FilesConflicted)
    assert conflict.paths == (other,)
    read_again = [e.output for e in told.of(ToolReturned, subject=conflict.subtask) if e.tool == "read_file"]
    assert [name in read_again[0] for name in ("by a", "by b")] == [True, True]
    assert made(outcome) == text(l1="by a", l8="by b")
    assert (Path(outcome.folder or "") / other).read_text() == "both\n"


async def test_the_outcome_is_judged_on_the_merged_file_and_who_redoes_it_finds_it_merged(tmp_path: Path) -> None:
    """Each change is right by itself; together they are not."""
    check = f"python -c \"t = open('{PATH}').read(); assert not ('by a' in t and 'by b' in t), '{PATH}'\""

    def play(role: str, subtask: str, body: Body) -> Reply | None:
        if not (subtask and rejected(body)) or written(body):
            return own_line(role, subtask, body)
        return write(results(body)[0].replace("by a", "both").replace("by b", "both")) if results(body) else read(PATH)

    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await run(tmp_path, endpoint, plan=plan("a", "b"), accept=[{"run": check}])
    told = await story(tmp_path)
    if not told.of(ReviewGiven)[0].named:
        pytest.fail(f"the check names no file: {told.of(ReviewGiven)[0]}")
    assert outcome.outcome == "accepted", outcome.reason
    assert made(outcome) == text(l1="both", l4="both")
    later = next(event.subtask for event in told.of(FilesMerged) if event.merged)
    assert Counter(e.subtask.id for e in told.of(SubtaskAssigned))[later] == 2
    assert len(told.of(SubtaskAssigned)) == 3


async def test_an_earlier_one_that_is_redone_is_taken_out_of_the_merged_file_and_the_later_is_merged_anew(
    tmp_path: Path,
) -> None:
    def play(role: str, subtask: str, body: Body) -> Reply | None:
        if role == "critic":
            accepted = "better" in str(body["messages"])
            redo = [] if accepted else [{"subtask": "a", "why": "it is thin"}]
            return json.dumps({"reasons": "it is thin", "accepted": accepted, "redo": redo})
        if subtask == "a" and rejected(body):
            if written(body):
                return "Made it better."
            here = results(body)
            return write(here[0].replace("by a", "line 1").replace("line 2", "better")) if here else read(PATH)
        return own_line(role, subtask, body)

    async with ChatEndpoint(player(play=play)) as endpoint:
        outcome = await run(tmp_path, endpoint, plan=plan("a", "b", "c"), accept=[{"ask": "Is it good?"}])
    assert outcome.outcome == "accepted", outcome.reason
    told = await story(tmp_path)
    assert made(outcome) == text(l2="better", l4="by b", l7="by c"), "nothing of the old line 1 is left"
    assert Counter(e.subtask.id for e in told.of(SubtaskAssigned)) == {"a": 2, "b": 1, "c": 1}
    assert told.of(FilesMerged)[-1].subtask == "a"


@pytest.mark.parametrize("kind", [ResultSubmitted, MergeTried, FilesMerged])
async def test_a_crash_around_a_merge_changes_nothing_of_what_comes_of_it(tmp_path: Path, kind: type[Any]) -> None:
    async with ChatEndpoint(player(play=own_line), keep=200) as endpoint:
        seen: Counter[type[Any]] = Counter()

        def on_event(envelope: Envelope) -> None:
            seen[type(envelope.event)] += 1
            if isinstance(envelope.event, kind) and seen[kind] == min(2, seen[kind] if kind is MergeTried else 2):
                raise Crashed

        with pytest.raises(BaseExceptionGroup):
            await run(tmp_path, endpoint, plan=plan("a", "b"), on_event=on_event)
        before = await story(tmp_path)
        asked = endpoint.count
        outcome = await resume(tmp_path)
        if kind is not ResultSubmitted:
            assert endpoint.count == asked, "the results were in the log"
    assert outcome.outcome == "accepted", outcome.reason
    assert made(outcome) == text(l1="by a", l4="by b")
    told = await story(tmp_path)
    assert told.log[: len(before.log)] == before.log
    assert len(told.of(MergeTried)) == 1
    assert [event.merged for event in told.of(FilesMerged)] == [(), (PATH,)]


async def test_what_is_recorded_of_a_merge_is_what_the_file_store_gives_again(tmp_path: Path) -> None:
    """A replay needs no more than the log and the files."""
    async with ChatEndpoint(player(play=own_line)) as endpoint:
        await run(tmp_path, endpoint, plan=plan("a", "b", "c"))
    log = (await story(tmp_path)).log
    state = RunState("again")
    compared = 0
    async with open_store(tmp_path / "home", read_only=True) as store:
        for envelope in log:
            if isinstance(envelope.event, MergeTried):
                wanted = meetings.wanted(state)
                assert wanted is not None
                assert (await compare(wanted, store.files))[0] == envelope.event
                compared += 1
            apply(state, envelope)
    assert compared == 2


@pytest.mark.parametrize("count", [8])
async def test_many_at_once_lose_no_change(tmp_path: Path, count: int) -> None:
    """Each has a line of its own, with others between."""
    names = "abcdefghijklmnop"[:count]
    lines = [f"line {number}\n" for number in range(4 * count)]

    def play(_role: str, subtask: str, body: Body) -> Reply | None:
        if not subtask or written(body):
            return None
        changed = list(lines)
        changed[4 * names.index(subtask)] = f"by {subtask}\n"
        return write("".join(changed))

    async with ChatEndpoint(player(play=play)) as endpoint:
        (tmp_path / PATH).write_text("".join(lines))
        outcome = await start(tmp_path, scenario(endpoint, workspace=PATH, plan=plan(*names), accept=[{"file": PATH}]))
    assert outcome.outcome == "accepted", outcome.reason
    assert made(outcome) == "".join(
        f"by {names[number // 4]}\n" if number % 4 == 0 else line for number, line in enumerate(lines)
    )
    assert outcome.model_calls == 2 * count


async def test_a_run_with_merges_and_clashes_replays(tmp_path: Path) -> None:
    def play(role: str, subtask: str, body: Body) -> Reply | None:
        if subtask != "c":
            return own_line(role, subtask, body)
        if written(body):
            return None
        if rejected(body):
            seen = results(body)
            wanted = [PATH, f".swarm/yours/{PATH}"]
            return read(wanted[len(seen)]) if len(seen) < len(wanted) else write(seen[0] + "by c\n")
        return write(text(l1="also by c"))

    others = asyncio.Event()  # `c` comes last, whatever the machine does meanwhile

    async def respond(body: Body) -> Reply:
        if subtask_of(body) == "c":
            await others.wait()
        return player(play=play)(body)

    merges: list[str] = []

    def on_event(envelope: Envelope) -> None:
        if isinstance(envelope.event, FilesMerged):
            merges.append(envelope.event.subtask)
            if len(merges) == 2:
                others.set()

    async with ChatEndpoint(respond) as endpoint:
        outcome = await run(tmp_path, endpoint, plan=plan("a", "b", "c"), on_event=on_event)
    assert outcome.outcome == "accepted", outcome.reason
    told = await story(tmp_path)
    assert told.of(MergeTried)
    assert told.of(FilesConflicted)
    async with open_store(tmp_path / "home", read_only=True) as store:
        replayed = await replay(outcome.run, store.log.read(outcome.run), store.files, tmp_path / "replayed")
    assert replayed.difference is None, replayed.difference
    assert replayed.events == len(told.log)
