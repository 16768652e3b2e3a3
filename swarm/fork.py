"""Another future of a run: the same past up to an event, and from there on another goal, model, limit or role.

What the past was given is recorded, and need not be where it was: the files of its workspace, the texts of its prompts
and schemas, and what a hub brought and allowed. Code is looked for again.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bus.events import GoalSubmitted, RunForked
from bus.setup import Criterion, Limits, Price, RoleSetup, Setup
from bus.store import Store, open_store
from swarm import launch
from swarm.core.state import RunState, Status
from swarm.errors import UsageError
from swarm.launch import OnEvent, OnState
from swarm.preparation.parts import Parts
from swarm.preparation.preparing import Ready
from swarm.runs import finding, handover
from swarm.runs.folding import fold
from swarm.runs.outcome import Outcome
from swarm.runs.ownership import carrying_on, this_process
from swarm.scenario.draft import Surroundings, text_name
from swarm.scenario.model import Scenario, ScenarioRole, named_schemas, prompt_files
from swarm.scenario.source import FieldPath
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
    submitted: bool = False
    """Whether a hub ran it, which never saw its folder, and had a say in what it may."""
    brought: Mapping[str, RoleSetup] = field(default_factory=dict)
    """Roles whose code is with the agents that offered them."""
    needed: frozenset[str] = frozenset()
    """Roles that the scenario names, or that have something to do at this event."""

    def scenario(self, changes: Changes) -> Scenario:
        """Return the scenario that goes on from here. Raises `ScenarioError`, `UsageError`."""
        for path in changes.told():
            if (part := path.partition(".")[0]) in FIXED:
                raise UsageError(f"--set {path}: a fork keeps the {part} of its past. Run it anew instead.")
        scenario = self._scenario(changes)
        elsewhere = self.needed & self.brought.keys() - scenario.roles.keys()
        if elsewhere:
            name = min(elsewhere)
            raise UsageError(
                f"the role {name!r} was brought by attached agents, and a fork has only what is here. Name code for it "
                f"by --set roles.{name}.uses=./FILE.py:CLASS, or submit the scenario anew where those agents are."
            )
        return scenario

    def as_it_was(self) -> Scenario:
        """Return the scenario without changes, and without roles whose code is elsewhere: to be looked at, not run.

        Of its files only code is looked for. Raises `ScenarioError`.
        """
        return self._scenario(Changes(), folder_here=False)

    def _scenario(self, changes: Changes, *, folder_here: bool = True) -> Scenario:
        setup = self.setup
        own = {name: role for name, role in setup.roles.items() if role.uses}
        around = Surroundings(
            roles={name: frozenset(role.tools) for name, role in {**self.brought, **own}.items()},
            tools=frozenset(tool for role in setup.roles.values() for tool in role.tools),
            providers=frozenset(setup.endpoints),
            texts=self._texts(changes),
            folder_here=folder_here,
            taken_in=True,
        )
        scenario = Scenario.from_dict(
            {**setup.written, "name": setup.name},
            folder=Path.cwd() if self.submitted else setup.folder,
            goal=changes.goal,
            settings=changes.settings,
            inputs=setup.inputs,
            around=around,
        )
        if self.submitted:
            scenario = self._as_the_hub_had_it(scenario, changes)
        here = {name: role for name, role in scenario.roles.items() if role.uses or name not in self.brought}
        return replace(scenario, roles=here)

    def _texts(self, changes: Changes) -> dict[str, str]:
        """Return the recorded texts of prompts and schemas by the files they were in, without those named anew."""
        files = prompt_files(self.setup.written, self.setup.inputs)
        roles, told = self.setup.roles, changes.told()
        known = {text_name(file): roles[name].prompt or "" for name, file in files.items() if name in roles}
        anew = {text_name(file) for name, file in files.items() if f"roles.{name}.prompt" in told}
        for where, file in named_schemas(self.setup.written, self.setup.inputs).items():
            if not isinstance(schema := self._criterion(where)["schema"], str):
                known[text_name(file)] = json.dumps(schema)
            if any(f"{'.'.join(map(str, where))}.".startswith(f"{path}.") for path in told):
                anew.add(text_name(file))
        return {name: text for name, text in known.items() if name not in anew}

    def _criterion(self, where: FieldPath) -> Criterion:
        """Return the entry of `accept` at a place of the scenario, as it was recorded."""
        match where:
            case ("plan", int(subtask), _, int(entry), *_):
                return (self.setup.plan or ())[subtask].accept[entry]
            case (_, int(entry), *_):
                return self.setup.accept[entry]
        raise KeyError(where)

    def _as_the_hub_had_it(self, scenario: Scenario, changes: Changes) -> Scenario:
        """Return a scenario with what a hub brought to it, and within what it allowed, unless that is changed."""
        setup = self.setup
        prices: dict[str, Price] = {}
        for role in setup.roles.values():
            if role.price is not None and (provider := role.model.partition(":")[0]) in setup.endpoints:
                prices[provider] = role.price
        allowed = not any(path.partition(".")[0] == "permissions" for path in changes.told())
        return replace(
            scenario,
            roles={name: self._as_recorded(name, role, scenario, changes) for name, role in scenario.roles.items()},
            permissions=setup.permissions if allowed else scenario.permissions,
            endpoints={**setup.endpoints, **scenario.endpoints},
            prices={**prices, **scenario.prices},
        )

    def _as_recorded(self, name: str, role: ScenarioRole, scenario: Scenario, changes: Changes) -> ScenarioRole:
        """Return a role as recorded in what nobody writes of it."""
        said, was = scenario.said_of(name), self.setup.roles.get(name)
        if was is None or was.brought or "uses" in said:
            return role
        if not {"model", f"roles.{name}.model"} & changes.told().keys():  # of another model other things are known
            role = replace(role, dialogue=role.dialogue or was.dialogue, window=role.window or was.window)
        return replace(
            role,
            tools=role.tools if "tools" in said else was.tools,
            max_tokens=role.max_tokens if "max_tokens" in said else was.max_tokens,
            prompt=role.prompt if "prompt" in said else was.prompt,
            uses=was.uses,
            options=was.options,
        )

    def models(self, changes: Changes) -> tuple[str, ...]:
        """Return the models to choose from: those of the past, where nothing names another."""
        named = set(changes.told())
        if "model" in named:
            return changes.models
        here = [name for name in self.setup.roles if name not in self.brought or f"roles.{name}.uses" in named]
        kept = [f"{name}={self.setup.roles[name].model}" for name in here if f"roles.{name}.model" not in named]
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
    submitted = False
    async for envelope in store.log.read(info.run, 1, 1):
        submitted = isinstance(envelope.event, GoalSubmitted) and bool(envelope.event.client)
    roles = {**state.brought, **state.setup.roles}
    return Past(
        info.run,
        position,
        state.setup,
        state.limits,
        submitted,
        {name: role for name, role in roles.items() if role.brought},
        _needed(state, state.setup),
    )


def _needed(state: RunState, setup: Setup) -> frozenset[str]:
    written = setup.written.get("roles")
    named = {subtask.role for subtask in setup.plan or ()} | {*(written if isinstance(written, dict) else ())}
    return frozenset(named | {one.spec.role for one in state.subtasks.values() if one.status is not Status.ACCEPTED})


async def fork(
    past: Past,
    ready: Ready,
    changes: Changes,
    settings: Settings,
    *,
    out: Path | None = None,
    on_state: OnState = lambda _: None,
    on_event: OnEvent | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Begin another future of a run and carry it on to its end. Cancelling pauses it. Raises as `launch.start` does."""
    before = past.as_it_was().limits
    setup = ready.setup.model_copy(update={"limits": _limits(past.limits, before, ready.setup.limits)})
    async with open_store(settings.place) as store, Parts(setup, settings, announce=announce) as parts:
        run = launch.new_run_id(setup.name)
        target = (out or Path.cwd() / run).absolute()
        await asyncio.to_thread(handover.refuse_unusable, target)
        await parts.prepare()
        epoch = await store.log.create(run, this_process(), parent=(past.run, past.at))
        state = await fold(store.log, run)
        first = RunForked(
            parent=past.run,
            at=past.at,
            changes=dict(changes.told()),
            setup=setup,
            hashes=file_hashes(ready.scenario) | role_hashes(setup.roles),
            out=str(target),
        )
        with carrying_on(run):
            return await launch.carry_on(
                state,
                [first],
                store=store,
                parts=parts,
                epoch=epoch,
                home=settings.home,
                on_state=on_state,
                on_event=on_event,
            )


def _limits(past: Limits, before: Limits, wanted: Limits) -> Limits:
    """Return the limits of the past, which a person may have raised on the way, with what a fork changes of them."""
    changed = {name: value for name, value in wanted if value != getattr(before, name)}
    return past.model_copy(update=changed)
