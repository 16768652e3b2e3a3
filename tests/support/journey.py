"""One run with all that a crash may hit: a planner, agents side by side, tools of every kind, two rejections, a redo.

    async with Journey(folder) as journey:
        killed = await journey.begin(kill=Kill("after", 17))
        ...
        ended = await journey.go_on()

Each step is a process of its own, forked from a server that has loaded everything, and killed with SIGKILL. The tools
write a line an execution into files outside: what happened is counted there, not in the log.
"""

import asyncio
import json
import multiprocessing
import os
import signal
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from agents.tool_calls import SKIPPED
from bus.database_file import Connect, connect
from bus.envelope import Envelope
from bus.errors import NotFound
from bus.event_logs.sqlite import SqliteEventLog
from bus.events import DoubtSettled, ModelAnswered, ModelAsked, ToolCalled, ToolReturned, WorkFailed
from bus.store import Store
from swarm import launch
from swarm.errors import SwarmError
from tests.support.endpoint import Answer, Body, ChatEndpoint, Reply
from tests.support.runs import Story, layers, player, results, scenario, settings, start, story, task

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

TOOLS = """\
import os

from swarm import ToolContext, tool


def line(name: str, text: str) -> None:
    descriptor = os.open(os.path.join({outside!r}, name), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{{text}}\\n".encode())
    os.close(descriptor)


@tool(effect="outward", needs_approval=False)
async def post_letter(to: str) -> str:
    \"\"\"Post a letter, which cannot be taken back.\"\"\"
    line("letters", to)
    return f"Posted to {{to}}."


@tool(effect="outward", idempotent=True, needs_approval=False)
async def order(item: str, context: ToolContext) -> str:
    \"\"\"Order something; the shop knows a repeated order by its key.\"\"\"
    line("orders", f"{{item}} {{context.idempotency_key}}")
    return f"Ordered {{item}}."
"""
ROLES = """\
import asyncio

from swarm import Context, ResultSubmitted, Role, SubtaskAssigned, ToolFailed


class Courier(Role[SubtaskAssigned, ResultSubmitted]):
    \"\"\"Posts, orders and asks, all at once.\"\"\"

    name = "courier"
    handles = SubtaskAssigned
    tools = ("write_file",)

    async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
        name = request.subtask.id
        when = await ctx.now()
        async with asyncio.TaskGroup() as group:
            for to in ("north", "south"):
                group.create_task(self.post(ctx, f"{name}-{to}"))
            group.create_task(ctx.call_tool("order", item=name))
            said = group.create_task(ctx.converse("You carry.", f"What to write? ({name}, {when}, {ctx.attempt})"))
        if ctx.attempt > 1:  # its first attempt comes without the file that it owes
            await ctx.call_tool("write_file", path=f"{name}.txt", content=f"made by {name}\\n")
        return ctx.result(f"{said.result().text} {await ctx.random() >= 0}")

    async def post(self, ctx: Context, to: str) -> None:
        try:
            await ctx.call_tool("post_letter", to=to)
        except ToolFailed:  # a person said to go on without it
            pass
"""
PLAN = [*layers(2, 2), task("c0", ["t0-0"], role="courier")]
LETTERS = {"t0-1", "t1-1", "c0-north", "c0-south"}
ORDERS = {"t0-1", "c0"}
DOUBT = "nobody knows whether this was done"


@dataclass(frozen=True, slots=True)
class Kill:
    """When a process is killed: right before or after its nth commit, or some seconds after it began."""

    when: Literal["before", "after", "time"]
    at: float


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: killed, with the outcome of its run, or with an error."""

    killed: bool = False
    outcome: str = ""
    reason: str = ""
    files: tuple[str, ...] = ()
    error: str = ""
    commits: int = 0


class Journey:
    """One run in a folder, with the endpoint and the outside world that it meets."""

    def __init__(self, folder: Path, *, latency_s: float = 0.0) -> None:
        self.folder = folder
        self.outside = folder / "outside"
        self.endpoint = ChatEndpoint(player(PLAN, _play), keep=2000, latency_s=latency_s)
        self.doubts = 0
        """How often a kill left an outward call in doubt."""

    async def __aenter__(self) -> Self:
        self.outside.mkdir(parents=True)
        (self.folder / "tools.py").write_text(TOOLS.format(outside=str(self.outside)))
        (self.folder / "roles.py").write_text(ROLES)
        await self.endpoint.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.endpoint.__aexit__()

    @property
    def scenario(self) -> dict[str, Any]:
        tools = ["./tools.py:post_letter", "./tools.py:order"]
        return scenario(
            self.endpoint,
            name="journey",
            roles={
                "coder": {"tools": ["read_file", "write_file", *tools]},
                "courier": {"uses": "./roles.py:Courier", "tools": ["write_file", *tools]},
            },
            accept=[{"text": "t0-1.txt", "contains": ["final"]}, {"ask": "All is made."}],
            limits={"rounds": 4, "parallel": 6},
        )

    async def begin(self, kill: Kill | None = None) -> Ended:
        """Start the run in a process."""
        return await _process(self.folder, self.scenario, kill)

    async def go_on(self, kill: Kill | None = None, *, skip: bool = False, here: bool = False) -> Ended:
        """Resume the run in a process (or `here`, in this one), and hold that nothing recorded is done again.

        `skip`: what a person says of calls that are in doubt.
        """
        before = await self.story()
        seen = len(self.endpoint.requests)
        doubtful = bool(in_doubt(before.log)) and not skip
        ended = await (_carry_on(self.folder, None, skip) if here else _process(self.folder, None, kill, skip=skip))
        asked = {_key(request.body["messages"]) for request in [*self.endpoint.requests][seen:]}
        assert not asked & answered(before.log), "a recorded answer was asked for again"
        after = await self.story()
        assert after.log[: len(before.log)] == before.log, "what was recorded is not what it was"
        self.holds()
        if doubtful and not ended.killed and before.state.ended is None:
            assert (ended.outcome, DOUBT in ended.reason) == ("paused", True), ended
        return ended

    async def to_the_end(self, *, here: bool = False) -> Ended:
        """Resume until the run has ended. Where a letter is in doubt the run pauses first, and a person says: skip."""
        ended = await self.go_on(here=here)
        while ended.outcome == "paused" and DOUBT in ended.reason:
            assert in_doubt((await self.story()).log), "nothing is in doubt, and the run paused for it"
            self.doubts += 1
            ended = await self.go_on(skip=True, here=here)
        return ended

    async def story(self) -> Story:
        """Read the log, hash chain included."""
        return await story(self.folder)

    async def has_begun(self) -> bool:
        """Tell whether the log has an event of the run."""
        try:
            async with SqliteEventLog(self.folder / "home", read_only=True) as log:
                return any(info.length for info in await log.runs())
        except NotFound:
            return False

    def lines(self, name: str) -> list[str]:
        """Return the lines that a tool wrote outside."""
        path = self.outside / name
        return path.read_text().splitlines() if path.exists() else []

    def holds(self) -> None:
        """Hold what is true of the world outside at any time."""
        letters = Counter(self.lines("letters"))
        assert set(letters.values()) <= {1}, f"a letter was posted twice: {letters}"
        assert letters.keys() <= LETTERS
        keys = {line.split()[0]: set[str]() for line in self.lines("orders")}
        for line in self.lines("orders"):
            keys[line.split()[0]].add(line.split()[1])
        assert all(len(found) == 1 for found in keys.values()), f"an order was repeated under another key: {keys}"

    async def is_accepted(self, ended: Ended) -> None:
        """Hold that a run came to the outcome that it has when nobody kills it."""
        failed = [] if ended.outcome == "accepted" else (await self.story()).of(WorkFailed)
        assert ended.outcome == "accepted", (ended, [event.reason for event in failed])
        assert {*ended.files} == {f"{one['id']}.txt" for one in PLAN}, ended
        out = self.folder / "out"
        assert {path.name: path.read_text() for path in out.iterdir()} == {
            f"{name}.txt": "final\n" if name == "t0-1" else f"made by {name}\n" for name in (one["id"] for one in PLAN)
        }
        assert {line.split()[0] for line in self.lines("orders")} == ORDERS


def _play(role: str, subtask: str, body: Body) -> Reply | None:
    """Coders post and order on their way; the first version of `t0-1.txt` is not what the goal wants."""
    if body["messages"][0]["content"].startswith("You carry."):
        return "Dear all,"
    if role != "coder":
        return None
    given = results(body)
    if subtask in {"t0-1", "t1-1"} and not any("Posted" in one or SKIPPED in one for one in given):
        return Answer(calls=[("post_letter", {"to": subtask})])
    if subtask == "t0-1" and not any(one.startswith("Ordered") for one in given):
        return Answer(calls=[("order", {"item": subtask})])
    if subtask == "t0-1" and not any(one.startswith("Wrote") for one in given):
        text = "final\n" if "does not contain" in json.dumps(body["messages"]) else "draft\n"
        return Answer(calls=[("write_file", {"path": "t0-1.txt", "content": text})])
    return None


def _key(messages: Iterable[Mapping[str, Any]]) -> str:
    """Return what tells one request from all others: what was asked for at first, and what was said last."""
    said = [*messages]
    return json.dumps([said[1]["content"], said[-1]], sort_keys=True)


def answered(log: Iterable[Envelope]) -> set[str]:
    """Return the requests whose answers are in a log."""
    first: dict[Any, Any] = {}
    asked: dict[Any, str] = {}
    found = set()
    for envelope in log:
        event = envelope.event
        if isinstance(event, ModelAsked):
            place = envelope.subject, event.attempt
            if (*place, event.path) not in asked:
                root = first.get((*place, event.follows))
                root = first[*place, event.path] = root or event.messages[1]["content"]
                asked[*place, event.path] = json.dumps([root, event.messages[-1]], sort_keys=True)
        elif isinstance(event, ModelAnswered):
            found.add(asked[envelope.subject, event.attempt, event.path])
    return found


def in_doubt(log: Iterable[Envelope]) -> set[tuple[str | None, str]]:
    """Return the calls of `post_letter` whose outcome is not in a log, and of which no person has said anything."""
    found = set()
    for envelope in log:
        event = envelope.event
        if isinstance(event, ToolCalled | ToolReturned) and event.tool == "post_letter":
            call = envelope.subject, event.digest
            found.add(call) if isinstance(event, ToolCalled) else found.discard(call)
        elif isinstance(event, DoubtSettled):
            found.discard((event.request, event.digest))
    return found


# Processes


def store_on(connect: Connect) -> Any:
    """Return what takes the place of `bus.store.open_store`, over connections of one's own."""

    @asynccontextmanager
    async def open_store(folder: Path, *, read_only: bool = False) -> AsyncIterator[Store]:
        async with SqliteEventLog(folder, read_only=read_only, connect=connect) as log:
            yield Store(log, log.files)

    return open_store


class _Deadly(sqlite3.Connection):
    """Kills its process at a commit."""

    kill: Kill | None = None
    commits = 0

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:  # type: ignore[override]
        if statement != "COMMIT":
            return super().execute(statement, *values)
        _Deadly.commits += 1
        self._meets("before")
        done = super().execute(statement)
        self._meets("after")
        return done

    def _meets(self, when: str) -> None:
        if self.kill and (self.kill.when, self.kill.at) == (when, _Deadly.commits):
            os.kill(os.getpid(), signal.SIGKILL)


async def _carry_on(folder: Path, written: dict[str, Any] | None, skip: bool) -> Ended:  # noqa: FBT001
    """Run, or resume where nothing is `written`."""
    try:
        if written is not None:
            outcome = await start(folder, written)
        else:
            outcome = await launch.resume("last", settings(folder), in_doubt=lambda _: "skip" if skip else None)
    except SwarmError as error:
        return Ended(error=str(error))
    return Ended(outcome=outcome.outcome, reason=outcome.reason, files=tuple(ref.path for ref in outcome.files))


def _child(folder: Path, written: dict[str, Any] | None, kill: Kill | None, skip: bool) -> None:  # noqa: FBT001
    """Be the process that is killed."""
    _Deadly.kill = kill
    launch.open_store = store_on(lambda uri: connect(uri, factory=_Deadly))
    ended = asyncio.run(_carry_on(folder, written, skip))
    told = {name: getattr(ended, name) for name in Ended.__slots__} | {"commits": _Deadly.commits}
    (folder / "ended.json").write_text(json.dumps(told))


_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "tests.support.journey",
        "agents.checks.ask",
        "agents.checks.file",
        "agents.checks.text",
        "agents.completions.transport",
        "agents.models.openai_chat",
        "agents.roles.coder",
        "agents.roles.critic",
        "agents.roles.planner",
        "agents.roles.researcher",
        "agents.sandboxes.bubblewrap",
        "agents.tools.project_files",
        "bus.transports.memory",
        "genai_prices",
        "genai_prices.data",
        "openai",
        "ruamel.yaml",
    ]
)
"""What a run loads on its way, so that a forked process has it."""


async def _process(folder: Path, written: dict[str, Any] | None, kill: Kill | None, *, skip: bool = False) -> Ended:
    (folder / "ended.json").unlink(missing_ok=True)
    process: ForkServerProcess = _context.Process(target=_child, args=(folder, written, kill, skip), daemon=True)
    loop = asyncio.get_running_loop()
    await asyncio.to_thread(process.start)
    gone = asyncio.Event()
    loop.add_reader(process.sentinel, gone.set)
    try:
        if kill is not None and kill.when == "time":
            await _at_most(gone, kill.at)
            process.kill()
        await gone.wait()
    finally:
        loop.remove_reader(process.sentinel)
        if process.is_alive():
            process.kill()
        process.join()
    if process.exitcode == -signal.SIGKILL:
        return Ended(killed=True)
    assert process.exitcode == 0, f"the process ended with {process.exitcode}: see above"
    told = json.loads((folder / "ended.json").read_text())
    return Ended(**told | {"files": tuple(told["files"])})


async def _at_most(gone: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await gone.wait()
    except TimeoutError:
        return
