"""Whole runs with real parts: a model endpoint that plays planner, workers and critic, and runs started against it.

async with ChatEndpoint(player(layers(3, 8))) as endpoint:
    outcome = await start(endpoint, tmp_path, limits={"subtasks": 50})
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bus.envelope import Envelope
from bus.setup import RoleSetup
from bus.store import open_store
from swarm import launch
from swarm.core.marks import pack, unpack
from swarm.core.state import RunState
from swarm.preparation import preparing
from swarm.replay import replay
from swarm.runs.folding import fold
from swarm.runs.outcome import Outcome
from swarm.scenario.model import Scenario
from swarm.settings import Settings
from tests.support.endpoint import Answer, Body, ChatEndpoint, Reply

PROMPTS = {"You plan.": "planner", "You find": "researcher", "You write": "coder", "You judge": "critic"}
"""How the prompts of our roles begin."""

Planned = dict[str, Any]
Play = Callable[[str, str, Body], Reply | None]
"""(role, subtask or "", request) -> what to say instead of the usual; None for the usual."""


def role_of(body: Body) -> str:
    """Return which of our roles asks."""
    first = str(body["messages"][0]["content"])
    return next((role for beginning, role in PROMPTS.items() if first.startswith(beginning)), "")


def subtask_of(body: Body) -> str:
    """Return the subtask that a request is about, "" where it is about none."""
    found = re.search(r"Your subtask:\nTASK ([\w-]+)", _said(body, "user"))
    return found.group(1) if found else ""


def results(body: Body) -> list[str]:
    """Return what the tools gave in this conversation so far."""
    return [str(message["content"]) for message in body["messages"] if message["role"] == "tool"]


def task(name: str, needs: Sequence[str] = (), role: str = "coder") -> Planned:
    """Return a subtask as the planner writes it: it makes the file `NAME.txt`."""
    return {"id": name, "role": role, "do": f"TASK {name}: write {name}.txt", "needs": [*needs]}


def layers(depth: int, width: int) -> list[Planned]:
    """Return a plan of layers: each subtask needs two of the layer below."""
    plan = []
    for layer in range(depth):
        for number in range(width):
            needs = {f"t{layer - 1}-{number}", f"t{layer - 1}-{(number + 1) % width}"} if layer else set()
            plan.append(task(f"t{layer}-{number}", sorted(needs)))
    return plan


def player(plan: Iterable[Planned] = (), play: Play = lambda *_: None) -> Callable[[Body], Reply]:
    """Return a responder that reaches every goal: the planner gives `plan`, coders write, critics accept.

    It looks at nothing but the request, so that it may be asked anything twice.
    """
    planned = {"subtasks": [one | {"creates": [f"{one['id']}.txt"]} for one in plan]}

    def respond(body: Body) -> Reply:
        role, subtask = role_of(body), subtask_of(body)
        said = play(role, subtask, body)
        if said is not None:
            return said
        match role:
            case "planner":
                return json.dumps(planned)
            case "critic":
                return json.dumps({"reasons": "all is there", "accepted": True})
            case "researcher":
                return json.dumps({"findings": [{"claim": f"{subtask} is so", "source": "notes.md"}]})
        if any(result.startswith("Wrote") for result in results(body)):
            return f"Made {subtask}.txt."
        return Answer(calls=[("write_file", {"path": f"{subtask}.txt", "content": f"made by {subtask}\n"})])

    return respond


def scenario(at: ChatEndpoint | str, *, price: Mapping[str, float] | None = None, **more: Any) -> dict[str, Any]:
    """Return a scenario as a mapping of a file's keys, its model at an endpoint; `more` adds keys."""
    url = at if isinstance(at, str) else at.url
    endpoints = {"lab": {"url": url} | ({"price": dict(price)} if price else {})}
    return {"name": "storm", "goal": "Make all the files.", "model": "lab:test-model", "endpoints": endpoints} | more


def settings(tmp_path: Path) -> Settings:
    """Return settings whose home is in `tmp_path`, with an empty environment."""
    return Settings(home=tmp_path / "home")


async def prepare(tmp_path: Path, written: Mapping[str, Any], **role: Any) -> preparing.Ready:
    """Prepare a run; `role` changes fields of every role's setup, such as `timeout_ms`."""
    ready = await preparing.prepare(Scenario.from_dict(written, folder=tmp_path), settings(tmp_path))
    roles = {name: RoleSetup.model_validate(one.model_dump() | role) for name, one in ready.setup.roles.items()}
    return replace(ready, setup=ready.setup.model_copy(update={"roles": roles}))


async def start(tmp_path: Path, written: Mapping[str, Any], *, on_event: Any = None, **role: Any) -> Outcome:
    """Run a scenario to its end or pause."""
    ready = await prepare(tmp_path, written, **role)
    return await launch.start(ready, settings(tmp_path), out=tmp_path / "out", on_event=on_event)


async def resume(tmp_path: Path, **changes: Any) -> Outcome:
    """Go on with the last run."""
    return await launch.resume("last", settings(tmp_path), changes=changes)


@dataclass(frozen=True, slots=True)
class Story:
    """The log of the last run, and what it adds up to."""

    log: tuple[Envelope, ...]
    state: RunState

    def of(self, *kinds: type[Any], subject: str | None = None) -> list[Any]:
        """Return the events of these classes, of one request if `subject` is given."""
        return [e.event for e in self.log if isinstance(e.event, kinds) and subject in {None, e.subject}]

    def told(self, *kinds: type[Any]) -> list[str]:
        """Return the names of the events of these classes, with the request they belong to."""
        return [f"{type(e.event).__name__} {e.subject or ''}".strip() for e in self.log if isinstance(e.event, kinds)]


async def story(tmp_path: Path, *, replays: bool = True) -> Story:
    """Read the last run's log, and hold what must hold of every run: chain, marks, and that it replays exactly.

    `replays`: False where a test has changed what the run's roles do.
    """
    async with open_store(tmp_path / "home", read_only=True) as store:
        run = (await store.log.runs())[0].run
        log = tuple([envelope async for envelope in store.log.read(run)])
        await store.log.verify(run)
        state = await fold(store.log, run)
        assert unpack(run, pack(state)) == state
        if replays and log:
            found = await replay(run, store.log.read(run), store.files, tmp_path / "replayed")
            assert found.difference is None, "\n".join(found.difference.lines())
        return Story(log, state)


def _said(body: Body, role: str) -> str:
    return "\n".join(str(message["content"]) for message in body["messages"] if message["role"] == role)
