"""Hubs and workers as processes, to be killed and stopped; and what must hold of the runs that go through that.

    async with Fleet(tmp_path, endpoint, there.url) as fleet:
        hub = await fleet.hub("north")
        worker = await fleet.worker("one")
        run = await fleet.submit(scenario)
        worker.kill9()
        ...
        log = await fleet.ends(run)
        await fleet.holds(run)

Each start of a process has a key of its own at the endpoint, so that there it is known who asked. The tool that cannot
be taken back writes a line an execution into a file outside: what happened is counted there, not in the log.
"""

import asyncio
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agents.tool_calls import SKIPPED
from bus.envelope import Envelope
from bus.events import (
    DoubtSettled,
    FilesMerged,
    GoalAccepted,
    ModelAnswered,
    ModelAsked,
    RunPaused,
)
from bus.store import Store, is_on_server, open_store
from swarm import launch
from swarm.core.apply import apply
from swarm.core.marks import pack, unpack
from swarm.core.state import RunState
from swarm.errors import MissingPart, UsageError
from swarm.hubs.hub_config import HubConfig
from swarm.replay import replay
from swarm.runs.marks import maker
from swarm.scenario.model import Scenario
from swarm.submissions.client import client_on
from swarm.submissions.packing import SUBMITTING
from swarm.submissions.packing import pack as pack_submission
from tests.support.command import clean_env
from tests.support.endpoint import Answer, Body, ChatEndpoint, Reply
from tests.support.runs import results

READY_S = 60.0
LOOK_S = 0.1
DOUBT = "nobody knows whether this was done"
TOOLS = """\
import asyncio
import os

from swarm import tool


@tool(effect="outward", needs_approval=False)
async def post_letter(to: str) -> str:
    \"\"\"Post a letter, which cannot be taken back.\"\"\"
    descriptor = os.open({ledger!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{{to}}\\n".encode())
    os.close(descriptor)
    await asyncio.sleep({slowness})
    return f"Posted to {{to}}."
"""


@dataclass
class Part:
    """A hub or a worker: a process that can be started again as the same one."""

    name: str
    arguments: tuple[str, ...]
    folder: Path
    ready: str
    env: Mapping[str, str]
    under: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    starting: bool = False
    """Whether its start is waited for: who killed it now would have it started by two."""
    frozen: list[tuple[float, float]] = field(default_factory=list)
    """When it was stopped, and let go on."""

    @property
    def key(self) -> str:
        """What its process now shows to the endpoint."""
        return f"{self.name}-{self.starts}"

    @property
    def told(self) -> str:
        """All that its processes have said."""
        path = self.folder / "told"
        return path.read_text() if path.exists() else ""

    @property
    def is_stopped(self) -> bool:
        return bool(self.frozen) and self.frozen[-1][1] == float("inf")

    @property
    def is_up(self) -> bool:
        """Whether its process is there, has said so, and is not halted."""
        there = self.process is not None and self.process.poll() is None
        return there and not self.starting and not self.is_stopped

    def launch(self) -> None:
        """Start its process; the one before has ended."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.starts += 1
        env = {**self.env, "OPENAI_API_KEY": self.key}
        with (self.folder / "told").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.under, sys.executable, "-m", "swarm", *self.arguments],
                cwd=self.folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    async def start(self, *, persist: bool = False) -> None:
        """Start its process, and wait until it says that it is there.

        `persist`: whenever it finds no broker and ends, start it again, as those do who look after processes.
        """
        before = self.told.count(self.ready)
        self.starting = True
        try:
            self.launch()
            async with asyncio.timeout(READY_S):
                while self.told.count(self.ready) == before:
                    assert self.process is not None
                    if self.process.poll() is not None:
                        assert persist, self.told
                        await asyncio.sleep(0.5)
                        self.launch()
                    await asyncio.sleep(0.02)
        finally:
            self.starting = False

    def kill9(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self._noted_on()

    def stop(self) -> None:
        """Halt it: it is there, and does nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        self.frozen.append((asyncio.get_running_loop().time(), float("inf")))

    def cont(self) -> None:
        assert self.process is not None
        self._noted_on()
        self.process.send_signal(signal.SIGCONT)

    def _noted_on(self) -> None:
        if self.is_stopped:
            self.frozen[-1] = self.frozen[-1][0], asyncio.get_running_loop().time()

    async def restart(self) -> None:
        self.kill9()
        await self.start()


class Witness:
    """Reads a run's log as it grows, and notes by when each record was there."""

    def __init__(self, store: Store, run: str) -> None:
        self.run = run
        self.log: list[Envelope] = []
        self.seen: list[float] = []
        """When a record was there at the latest, by position - 1."""
        self.state = RunState(run)
        self._store = store
        self._grown = asyncio.Event()
        self._looking = asyncio.Lock()
        self._broke: Exception | None = None

    async def watch(self) -> None:
        """Read until cancelled. What goes wrong is told to those who wait."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(LOOK_S)
        except Exception as error:
            self._broke = error
            self._grown.set()
            raise

    async def look(self) -> None:
        async with self._looking:  # a test that looks and the watch would each add what both had read
            found = [one async for one in self._store.log.read(self.run, len(self.log) + 1)]
            now = asyncio.get_running_loop().time()
            for envelope in found:
                apply(self.state, envelope)
                self.log.append(envelope)
                self.seen.append(now)
            if found:
                self._grown.set()

    async def until(self, reached: Any, within_s: float = 30.0) -> None:
        """Wait until something is true of the log as far as it was read."""
        async with asyncio.timeout(within_s):
            while not reached():
                if self._broke is not None:
                    raise self._broke
                self._grown.clear()
                await self._grown.wait()

    def of(self, *kinds: type[Any]) -> list[Any]:
        return [one.event for one in self.log if isinstance(one.event, kinds)]

    def last(self, count: int) -> list[str]:
        """Return the last records as lines, with how long ago each was there, and what is open."""
        now = asyncio.get_running_loop().time()
        told = []
        for envelope, seen in zip(self.log[-count:], self.seen[-count:], strict=True):
            who = envelope.source.partition("swarm/")[2]
            said = repr(envelope.event)[:160]
            told.append(f"{envelope.sequence:5} {now - seen:6.1f} s ago, {who}, {envelope.subject or '-'}: {said}")
        open_ = [f"lease of {work.agent} on {work.request}" for work in self.state.leases.values()]
        return [*told, *open_]

    @property
    def rests(self) -> bool:
        """Whether it has ended, or is paused."""
        return bool(self.log) and not self.state.running


class Fleet:
    """The parts on one broker, with the endpoint and the world outside. `place`: folder or URL of the hubs' store."""

    def __init__(
        self, folder: Path, endpoint: ChatEndpoint, bus: str, *, place: str | None = None, slowness_s: float = 0.0
    ) -> None:
        self.folder = folder
        self.endpoint = endpoint
        self.bus = bus
        self.place = place
        self.parts: dict[str, Part] = {}
        self.ledger = folder / "letters"
        self.skipped = 0
        """How often a run was paused with a letter in doubt, and a person said: skip."""
        (folder / "tools.py").write_text(TOOLS.format(ledger=str(self.ledger), slowness=slowness_s))
        (folder / "hub.yaml").write_text(f"tools: {{post_letter: {folder / 'tools.py'}:post_letter}}\n")
        self._store: Store | None = None
        self._witnesses: dict[str, tuple[Witness, asyncio.Task[None]]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, task in self._witnesses.values():
            task.cancel()
        await asyncio.gather(*(task for _, task in self._witnesses.values()), return_exceptions=True)
        for part in self.parts.values():
            part.kill9()
        if error is not None:
            for witness, _ in self._witnesses.values():
                error.add_note("\n".join(["--- the log ends with:", *witness.last(40)]))
            for part in self.parts.values():
                error.add_note(f"--- {part.name} said:\n{part.told[-3000:]}")

    def _part(self, name: str, command: tuple[str, ...], ready: str, bus: str | None, **more: Any) -> Part:
        folder = self.folder / name
        url = more.pop("endpoint", self.endpoint.url)
        env = clean_env(folder, SWARM_HOME=str(folder / "home"), SWARM_MODEL="openai:test-model", OPENAI_BASE_URL=url)
        part = Part(name, (*command, "--bus", bus or self.bus), folder, ready, env, **more)
        self.parts[name] = part
        return part

    async def hub(self, name: str, *, bus: str | None = None) -> Part:
        """Start a hub."""
        store = ("--log", self.place) if self.place and is_on_server(self.place) else ()
        command = ("hub", "--name", name, "--quiet", "--config", str(self.folder / "hub.yaml"), *store)
        part = self._part(name, command, "is ready on", bus)
        await part.start()
        if self.place is None:
            self.place = str(part.folder / "home")
        return part

    async def worker(self, name: str, *, slots: int = 4, bus: str | None = None, **more: Any) -> Part:
        """Start a worker for coders."""
        tools = f"{self.folder / 'tools.py'}:post_letter"
        command = ("attach", "coder", "--name", name, "--agents", str(slots), "--tools", tools)
        part = self._part(name, command, "is there for", bus, **more)
        await part.start()
        return part

    async def start(self, hubs: Iterable[str], workers: Iterable[str]) -> None:
        """Start hubs and workers, all at once."""
        await asyncio.gather(*map(self.hub, hubs), *map(self.worker, workers))

    # Runs

    async def submit(self, *, bus: str | None = None, **written: Any) -> Witness:
        """Submit a run and watch its log grow. What a client does not get an answer to, it asks again."""
        told = {"name": "storm", "goal": "Make all the files.", "roles": {"coder": {"tools": TOOLS_OF_CODERS}}}
        scenario = Scenario.from_dict(told | written, folder=self.folder, around=SUBMITTING)
        run = launch.new_run_id(scenario.name)
        async with client_on(bus or self.bus, announce=print) as client:
            submission, _ = pack_submission(scenario, run=run, client=client.name, home=self.folder)

            async def no_files(*_: str) -> None:
                raise AssertionError

            await client.submit(submission, no_files)
        return await self.watched(run)

    async def watched(self, run: str) -> Witness:
        assert self.place is not None
        opened = open_store(self.place if "://" in self.place else Path(self.place), read_only=True)
        ready: asyncio.Future[Witness] = asyncio.get_running_loop().create_future()

        async def watch() -> None:
            async with opened as store:
                witness = Witness(store, run)
                await witness.look()
                ready.set_result(witness)
                await witness.watch()

        task = asyncio.create_task(watch(), name=f"watches {run}")
        await asyncio.wait({task, ready}, return_when=asyncio.FIRST_COMPLETED)
        witness = ready.result() if ready.done() else task.result()
        assert witness is not None
        self._witnesses[run] = witness, task
        return witness

    async def resume(self, run: str, *, bus: str | None = None) -> None:
        """Go on with a paused run. A letter in doubt counts as posted: who is frozen may still be about to post it."""
        async with client_on(bus or self.bus, announce=lambda _: None) as client:
            with suppress(UsageError, MissingPart):  # another hub was quicker, or none is there just now
                await client.call("resume", hub=client.any_hub(), run=run, in_doubt="skip")

    async def ends(self, witness: Witness, within_s: float = 60.0, *, pauses: int = 0) -> RunState:
        """Wait for a run's end; go on with it where it pauses, so often at most."""
        async with asyncio.timeout(within_s):
            while True:
                await witness.until(lambda: witness.rests, within_s)
                if witness.state.ended is not None:
                    return witness.state
                reason = next(one.reason for one in reversed(witness.of(RunPaused)))
                assert pauses > 0, f"it pauses: {reason}"
                pauses -= 1
                self.skipped += DOUBT in reason
                await self.resume(witness.run)
                with suppress(TimeoutError):
                    await witness.until(lambda: not witness.rests, 3.0)

    # What must hold

    def posted(self) -> Counter[str]:
        return Counter(self.ledger.read_text().split() if self.ledger.exists() else ())

    def asked_again(self, witness: Witness) -> list[str]:
        """Return what was asked for, by whom, when its answer had been in the log already.

        Left out: what a process asked right after it had been stopped, and was in the middle of asking for.
        """
        there = {key: witness.seen[place] for key, place in answers(witness.log)}
        found = []
        for request in self.endpoint.requests:
            key = key_of(request.body["messages"])
            if request.at > there.get(key, float("inf")):
                who = request.headers.get("Authorization", "").removeprefix("Bearer ")
                found.append(f"{who} {request.at - there[key]:.2f} s after it was there: {key[-160:]}")
        return found

    async def holds(self, witness: Witness, files: Iterable[str], *, letters: Iterable[str] = ()) -> None:
        """Hold what must be true of a run that was accepted, whatever it went through."""
        await witness.look()
        run, log = witness.run, witness.log
        assert isinstance(log[-1].event, GoalAccepted), log[-1].event
        assert [one.sequence for one in log] == list(range(1, len(log) + 1))
        answered = Counter(place for place, _ in _places(log))
        assert set(answered.values()) <= {1}, "one ask was answered twice"
        merged = Counter(one.subject for one in log if isinstance(one.event, FilesMerged))
        assert set(merged.values()) <= {1}, merged
        again = self.asked_again(witness)
        assert not again, "\n".join(["asked for again:", *again])
        posted = self.posted()
        assert set(posted.values()) <= {1}, f"posted twice: {posted}"
        missing = set(letters) - set(posted)
        assert len(missing) <= len(witness.of(DoubtSettled)), f"not posted, though nobody was in doubt: {missing}"
        assert self.place is not None
        async with open_store(self.place if "://" in self.place else Path(self.place), read_only=True) as store:
            await store.log.verify(run)
            stored = [one async for one in store.log.read(run)]
            assert stored == log, "what was recorded is not what it was"
            again_folded = RunState(run)
            for envelope in stored:
                apply(again_folded, envelope)
            assert unpack(run, pack(again_folded)) == again_folded
            await self._marks_are(store, run, stored)
            ended = again_folded.ended
            assert ended is not None
            assert {ref.path for ref in ended.files} == set(files)
            for ref in ended.files:
                assert (await store.files.get(ref.sha256)).decode() == f"made by {ref.path.removesuffix('.txt')}\n"
            tools = HubConfig.load(self.folder / "hub.yaml").tools
            compared = await replay(run, store.log.read(run), store.files, self.folder / "replayed", tools=tools)
            assert compared.difference is None, "\n".join(compared.difference.lines())

    async def _marks_are(self, store: Store, run: str, log: list[Envelope]) -> None:
        """Hold that the states that hubs marked, as they had them, are what the log folds to there."""
        mark = await store.log.marks.newest(run, maker(), None)
        if mark is None:
            assert len(log) < 2000, "a hub has marked no state of a long run"  # one that is killed marks none
            return
        state = RunState(run)
        for envelope in log[: mark.position]:
            apply(state, envelope)
        assert unpack(run, mark.data) == state


TOOLS_OF_CODERS = ["read_file", "write_file", "post_letter"]


def key_of(messages: Iterable[Mapping[str, Any]]) -> str:
    """Return what tells one request from all others: what was asked for at first, and what was said last."""
    said = [*messages]
    return json.dumps([said[1]["content"], len(said), said[-1]["content"]], sort_keys=True)


def _places(log: Iterable[Envelope]) -> list[tuple[tuple[Any, ...], int]]:
    """Return the asks that were answered, with where in the log."""
    return [
        ((one.subject, one.event.attempt, one.event.path), place)
        for place, one in enumerate(log)
        if isinstance(one.event, ModelAnswered)
    ]


def answers(log: Iterable[Envelope]) -> list[tuple[str, int]]:
    """Return the requests whose answers are in a log, and where."""
    whole: dict[Any, list[Any]] = {}
    keys: dict[Any, str] = {}
    found = []
    for place, envelope in enumerate(log):
        event = envelope.event
        if isinstance(event, ModelAsked):
            at = envelope.subject, event.attempt
            before = whole.get((*at, event.follows), [])[: event.keeps]
            before += [None] * (event.keeps - len(before))  # the answer, which we have no need of
            said = [*before, *event.messages]
            whole[*at, event.path] = said
            keys[*at, event.path] = json.dumps([said[1]["content"], len(said), said[-1]["content"]], sort_keys=True)
        elif isinstance(event, ModelAnswered):
            found.append((keys[envelope.subject, event.attempt, event.path], place))
    return found


def writes_letters(letters: Iterable[str]) -> Any:
    """Return a play for `tests.support.runs.player`: coders of these subtasks post a letter on their way."""
    named = frozenset(letters)

    def play(role: str, subtask: str, body: Body) -> Reply | None:
        given = results(body)
        if role == "coder" and subtask in named and not any("Posted" in one or SKIPPED in one for one in given):
            return Answer(calls=[("post_letter", {"to": subtask})])
        return None

    return play
