"""A scenario of one's own, with its own roles and tools, in a simulated world: what the fixture `swarm_simulation` is.

Its model is a script or a function, and answers by what it is asked and nothing else: under faults the same question
may come again, from another agent. What the simulation has no place for is a sandbox and a network: code that a model
wrote is not run, pages are not fetched.
"""

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pydantic
from pydantic import JsonValue

from agents.model import ModelReply, ModelRequest, TryFailed
from agents.models.scripted import Entry, fault_of, reply_of, text_of
from bus.file_store import MemoryFileStore
from bus.setup import FileRef, Setup
from swarm.errors import UsageError
from swarm.preparation import preparing, workspace
from swarm.scenario.model import Scenario
from swarm.settings import Settings
from swarm.simulation.faults import Faults
from swarm.simulation.outside import Answer
from swarm.simulation.simulate import Simulated, quick_place, simulate

Says = Callable[[str, Sequence[Mapping[str, Any]]], str | Mapping[str, JsonValue]]
"""(role, messages) -> the model's text, or an entry as a script has it, such as `{"call": {"tool": …}}`."""

T = TypeVar("T")
ONE_MODEL = "scripted:simulated"


@dataclass(slots=True)
class Simulator:
    """Simulates runs of scenarios. `folder`: where scenarios are found from."""

    folder: Path

    def storm(
        self,
        scenario: str | Path | Mapping[str, object] | Scenario,
        *,
        runs: int = 200,
        script: Sequence[Mapping[str, JsonValue]] = (),
        says: Says | None = None,
        first: int = 0,
        faults: Faults | None = None,
        inputs: Mapping[str, str] | None = None,
        hubs: int = 2,
        agents: int = 3,
    ) -> Sequence[Simulated]:
        """Run a scenario under seed after seed, from `first` on, until the first run that breaks a promise.

        Raises `UsageError`, and what `says` raises.
        """
        if bool(script) == (says is not None):
            raise UsageError("a simulation needs a model: give `script=[…]` or `says=…`, one of them")
        for name, number in {"runs": runs, "hubs": hubs, "agents": agents}.items():
            if number < 1:
                raise UsageError(f"`{name}` is at least 1, and {number} was given")
        raised: list[BaseException] = []
        answer = answers(says, raised) if says is not None else answers_of(script)

        def all_of_them() -> list[Simulated]:
            found = []
            with tempfile.TemporaryDirectory(prefix="swarm-simulated-", dir=quick_place()) as place:
                setup, files, refs = asyncio.run(self._prepared(scenario, inputs, Path(place)))
                with nullcontext() if runs == 1 else _quiet():
                    for one in _until_broken(
                        first, runs, Path(place), faults, setup, answer, files, refs, hubs, agents
                    ):
                        if raised:
                            raised[0].add_note(f"`seed={one.seed}` repeats it")
                            raise raised[0]
                        found.append(one)
            return found

        return alone(all_of_them)

    async def _prepared(
        self,
        scenario: str | Path | Mapping[str, object] | Scenario,
        inputs: Mapping[str, str] | None,
        place: Path,
    ) -> tuple[Setup, MemoryFileStore, tuple[FileRef, ...]]:
        scenario = Scenario.of(scenario, folder=self.folder, inputs=inputs)
        ready = await preparing.prepare(scenario, Settings(home=place / "home"), models=[ONE_MODEL])
        files = MemoryFileStore()
        return ready.setup, files, await workspace.take_in(scenario, files, home=place / "home")


def _until_broken(  # noqa: PLR0917 - what `storm` was given
    first: int,
    runs: int,
    place: Path,
    faults: Faults | None,
    setup: Setup,
    answer: Answer,
    files: MemoryFileStore,
    refs: tuple[FileRef, ...],
    hubs: int,
    agents: int,
) -> Iterator[Simulated]:
    for seed in range(first, first + runs):
        folder = place / str(seed)
        result = simulate(
            seed,
            faults=faults,
            setup=setup,
            answer=answer,
            place=folder,
            hubs=hubs,
            agents=agents,
            files=files,
            workspace=refs,
            replays=True,
            prompt=False,
        )
        yield result
        shutil.rmtree(folder, ignore_errors=True)
        if result.broken:
            return


@contextmanager
def _quiet() -> Iterator[None]:
    """Let what our parts log of the faults of hundreds of runs not bury the one word of the run that matters."""
    logger = logging.getLogger("swarm")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def answers(says: Says, raised: list[BaseException]) -> Answer:
    """Return a model that a function speaks for; what that raises is noted, and nothing more is asked of it."""

    def answer(request: ModelRequest) -> ModelReply:
        entry = None
        if not raised:
            try:
                said = says(request.role, request.messages)
                whose = f"what `says` returned to role {request.role!r}"
                entry = _entry({"reply": said} if isinstance(said, str) else said, whose)
            except BaseException as error:  # noqa: BLE001 - also what fails or skips a test; it is raised after the run
                raised.append(error)
        if entry is None:
            raise TryFailed("refused", f"the model of the test raised {raised[0]!r}")
        return reply_of(entry, _turn(request), _conversation(request))

    return answer


def answers_of(script: Sequence[Mapping[str, JsonValue]]) -> Answer:
    """Return a model that answers from a script, of which no entry is used up.

    The entries that fit a conversation (`role`, `when`) are its turns, in their order; the last stands for all later
    ones.
    """
    entries = [_entry(one, f"script, entry {number}") for number, one in enumerate(script, 1)]

    def answer(request: ModelRequest) -> ModelReply:
        conversation = _conversation(request)
        fits = [number for number, entry in enumerate(entries) if entry.answers(request.role, conversation)]
        if not fits:
            ends = conversation[-500:]
            raise TryFailed("refused", f"the script has no entry for this request of role {request.role!r}: {ends!r}")
        number = fits[min(_turn(request), len(fits) - 1)]
        return reply_of(entries[number], number, conversation)

    return answer


def _entry(item: object, what: str) -> Entry:
    """Check an entry of a script. Raises `UsageError`."""
    try:
        return Entry.model_validate(item)
    except pydantic.ValidationError as error:
        raise UsageError(f"{what}: {fault_of(error)}") from error


def _turn(request: ModelRequest) -> int:
    """Return how often the model has spoken in this conversation."""
    return sum(message.get("role") == "assistant" for message in request.messages)


def _conversation(request: ModelRequest) -> str:
    return "\n".join(text for message in request.messages if (text := text_of(message)))


def alone(call: Callable[[], T]) -> T:
    """Call what runs an event loop, also where this thread runs one already, and leave that as it is."""
    loop = None
    with suppress(RuntimeError):
        loop = asyncio.get_running_loop()
    if loop is None:
        return call()
    with ThreadPoolExecutor(1, "swarm_simulation") as thread:  # an async test: its loop waits meanwhile
        return thread.submit(call).result()
