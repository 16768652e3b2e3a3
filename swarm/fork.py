"""Another future of a run: the same past up to an event, and from there on another goal, model, limit or role."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bus.events import RunForked
from bus.setup import Limits, Setup
from bus.store import Store, open_store
from swarm import finding, launch
from swarm.errors import UsageError
from swarm.launch import OnEvent
from swarm.outcome import Outcome
from swarm.ownership import carrying_on, this_process
from swarm.parts import Parts
from swarm.preparing import Ready
from swarm.runtime import fold
from swarm.scenario.model import Scenario
from swarm.scenario.trust import file_hashes, role_hashes
from swarm.settings import Settings

FIXED = ("plan", "workspace")
"""What the past has settled: no fork can change it."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be other than in the past. `settings`: `PATH=VALUE`; `models`: `M` for all roles or `ROLE=M`."""

    goal: str | None = None
    settings: tuple[str, ...] = ()
    models: tuple[str, ...] = ()

    def told(self) -> dict[str, str]:
        """Return the changes by what they change."""
        parts = [one.partition("=") for one in self.settings]
        told = {path: value for path, _, value in parts}
        if self.goal is not None:
            told["goal"] = self.goal
        for one in self.models:
            role, equals, model = one.partition("=")
            named = bool(equals) and ":" not in role
            told[f"roles.{role}.model" if named else "model"] = model if named else one
        return told


@dataclass(frozen=True, slots=True)
class Past:
    """A run up to the event at which another future begins."""

    run: str
    at: int
    setup: Setup
    limits: Limits

    def scenario(self, changes: Changes) -> Scenario:
        """Return the scenario that goes on from here. Raises `ScenarioError`, `UsageError`."""
        for path in changes.told():
            if (part := path.partition(".")[0]) in FIXED:
                raise UsageError(f"--set {path}: a fork keeps the {part} of its past. Run it anew instead.")
        return Scenario.from_dict(
            {**self.setup.written, "name": self.setup.name},
            folder=self.setup.folder,
            goal=changes.goal,
            settings=changes.settings,
            inputs=self.setup.inputs,
        )

    def models(self, changes: Changes) -> tuple[str, ...]:
        """Return the models to choose from: those of the past, where nothing names another."""
        named = set(changes.told())
        if "model" in named:
            return changes.models
        kept = [f"{name}={role.model}" for name, role in self.setup.roles.items() if f"roles.{name}.model" not in named]
        return (*kept, *changes.models)


async def past_of(store: Store, name: str, at: int | None) -> Past:
    """Return the past of a run until event `at`, by default its last. Raises `UsageError`."""
    info = await finding.find(store, name)
    position = info.length if at is None else at
    if position > info.length:
        raise UsageError(f"{info.run} has {info.length} events; there is no event {position}.")
    state = await fold(store.log, info.run, end=position)
    if state.setup is None:
        raise UsageError(f"{info.run} has no event yet: there is nothing to fork.")
    return Past(info.run, position, state.setup, state.limits)


async def fork(
    past: Past,
    ready: Ready,
    changes: Changes,
    settings: Settings,
    *,
    out: Path | None = None,
    on_event: OnEvent | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Begin another future of a run and carry it on to its end. Cancelling pauses it. Raises as `launch.start` does."""
    before = past.scenario(Changes()).limits
    setup = ready.setup.model_copy(update={"limits": _limits(past.limits, before, ready.setup.limits)})
    async with open_store(settings.place) as store, Parts(setup, settings, announce=announce) as parts:
        await parts.prepare()
        run = launch.new_run_id(setup.name)
        epoch = await store.log.create(run, this_process(), parent=(past.run, past.at))
        state = await fold(store.log, run)
        first = RunForked(
            parent=past.run,
            at=past.at,
            changes=dict(changes.told()),
            setup=setup,
            hashes=file_hashes(ready.scenario) | role_hashes(setup.roles),
            out=str((out or Path.cwd() / run).absolute()),
        )
        with carrying_on(run):
            return await launch.carry_on(
                state, [first], store=store, parts=parts, epoch=epoch, home=settings.home, on_event=on_event
            )


def _limits(past: Limits, before: Limits, wanted: Limits) -> Limits:
    """Return the limits of the past, which a person may have raised on the way, with what a fork changes of them."""
    changed = {name: value for name, value in wanted if value != getattr(before, name)}
    return past.model_copy(update=changed)
