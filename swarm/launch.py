"""Start a run, go on with one, look at one: what `swarm.run` and the command line share."""

import asyncio
import dataclasses
import datetime as dt
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from agents.completions.prices import price_of
from bus.envelope import Envelope
from bus.errors import BusError, Conflict, Damaged, NotFound, StorageFailed
from bus.event_log import EventLog, Mark, RunInfo
from bus.events import DoubtSettled, Event, GoalSubmitted, RunResumed
from bus.setup import Setup
from bus.store import Store, open_store
from swarm import handover, recordings, workspace
from swarm.core.doubts import Doubt, doubts
from swarm.core.state import RunState, Verdict
from swarm.errors import Fault, MissingPart, ScenarioError, UsageError
from swarm.model_choice import Choice, Wanted, choose, defaults_of, place_of, split_model, without
from swarm.outcome import Outcome, outcome_of
from swarm.ownership import carrying_on, has_left, this_process
from swarm.parts import Parts, load_tool, role_class
from swarm.runtime import execute, fold
from swarm.scenario.model import RoleModel, Scenario
from swarm.scenario.trust import file_hashes, role_hashes
from swarm.settings import Settings
from swarm.version import VERSION

OnEvent = Callable[[Envelope], None]


@dataclass(frozen=True, slots=True)
class Ready:
    """A scenario with all that a run of it needs to begin."""

    scenario: Scenario
    setup: Setup
    choices: Mapping[str, Choice]
    recordings: Mapping[str, Path] = field(default_factory=dict)
    """By role: the recording that is asked first, and that gets what it does not know."""


async def prepare(
    scenario: Scenario, settings: Settings, *, models: Sequence[str] = (), record_new: bool = False
) -> Ready:
    """Choose the models and load the roles and tools of a scenario; nothing is recorded or asked yet.

    `models`: `M` for all roles or `ROLE=M`. `record_new`: what recorded models do not know goes to live ones, and is
    added to the recording. Raises `ScenarioError`, `MissingPart`, `ModelUnavailable`, `NotFound`, `UsageError`.
    """
    choices = await chosen(scenario, settings, models=models)
    files = recordings.files_of(choices, scenario.folder)
    known = {path: recordings.opened(path, may_be_new=record_new) for path in {*files.values()}}
    if record_new:
        choices = await live_choices(scenario, settings, models=models)
    asked = {name: _known(choice.model) for name, choice in choices.items()}
    for name, path in files.items():
        asked[name] = (
            recordings.as_recorded(asked[name], name, known[path])
            if record_new
            else recordings.played(choices[name].model, name, known[path])
        )
    classes = {name: role_class(name, role.uses, scenario.folder) for name, role in scenario.roles.items()}
    declared = {name: tuple(one.tools) for name, one in classes.items()}
    setup = scenario.resolve(asked, declared=declared)
    for name, role in setup.roles.items():
        for tool in role.tools:
            if load_tool(tool, scenario.folder).needs_approval:
                raise _refused(name, tool)
    roles = {name: role.model_copy(update={"about": classes[name].about()}) for name, role in setup.roles.items()}
    setup = setup.model_copy(update={"roles": roles})
    _price_is_known(setup)
    return Ready(scenario, setup, choices, files if record_new else {})


async def chosen(scenario: Scenario, settings: Settings, *, models: Sequence[str] = ()) -> dict[str, Choice]:
    """Choose the model of each role, loading and asking nothing. Raises `UsageError`, `ModelUnavailable`."""
    choices = await choose(scenario.roles, _wanted(scenario, models), settings)
    for choice in choices.values():
        place_of(choice.model, scenario.endpoints, settings)  # raises here for a provider that nobody knows
    return choices


async def live_choices(scenario: Scenario, settings: Settings, *, models: Sequence[str] = ()) -> dict[str, Choice]:
    """Choose as if nobody had named a recorded model. Raises `UsageError` where nobody has, `ModelUnavailable`."""
    wanted = _wanted(scenario, models)
    lived = without(wanted, recordings.is_recorded)
    if lived == wanted and not recordings.is_recorded(settings.model or ""):
        raise UsageError("--record-new: no role has a recorded model. Name one: --model recorded:FILE")
    if recordings.is_recorded(settings.model or ""):
        settings = dataclasses.replace(settings, model=None)
    return await choose(scenario.roles, lived, settings)


def _wanted(scenario: Scenario, models: Sequence[str]) -> Wanted:
    """Sort `--model` by role. Raises `UsageError` for a role that is not there."""
    by_role: dict[str, str] = {}
    for_all: str | None = None
    for one in models:
        role, equals, model = one.partition("=")
        if not equals or ":" in role:
            for_all = one
        elif role not in scenario.roles:
            raise UsageError(f"--model {one}: role {role!r} is unknown (known: {', '.join(sorted(scenario.roles))})")
        else:
            by_role[role] = model
    written = {name: role.model for name, role in scenario.roles.items() if role.model}
    return Wanted(by_role, for_all, written, scenario.model)


def _known(model: str) -> RoleModel:
    """Return a model with what our tables know of it."""
    defaults = defaults_of(model)
    provider, name = split_model(model)
    return RoleModel(
        model,
        defaults.dialogue,
        defaults.context,
        defaults.temperature,
        int(defaults.timeout_s * 1000),
        price_of(provider, name),
    )


async def start(
    ready: Ready,
    settings: Settings,
    *,
    out: Path | None = None,
    on_event: OnEvent | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Run a scenario to its end and hand its files over. Cancelling pauses the run."""
    setup, kept = ready.setup, ready.recordings
    async with (
        open_store(settings.home) as store,
        Parts(setup, settings, announce=announce, recordings=kept) as parts,
    ):
        await _sandbox_works(setup, parts)
        await parts.prepare()
        files = await workspace.take_in(ready.scenario, store.files, home=settings.home)
        run = new_run_id(setup.name)
        epoch = await store.log.create(run, this_process())
        first = GoalSubmitted(
            setup=setup,
            workspace=files,
            hashes=file_hashes(ready.scenario) | role_hashes(setup.roles),
            software=VERSION,
            out=str((out or Path.cwd() / run).absolute()),
        )
        try:
            with carrying_on(run):
                return await carry_on(
                    RunState(run), [first], store=store, parts=parts, epoch=epoch, home=settings.home, on_event=on_event
                )
        finally:
            if kept:
                await asyncio.shield(_add_to_recordings(kept, store, run))


async def resume(
    name: str,
    settings: Settings,
    *,
    changes: Mapping[str, JsonValue] | None = None,
    in_doubt: Callable[[Doubt], Verdict | None] = lambda _: None,
    on_event: OnEvent | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Go on with a run that was paused, killed, or hit a limit that `changes` raises.

    `in_doubt` says what becomes of an outward call that was begun and whose outcome nobody knows; where it says
    nothing the run pauses again. An ended run only has the hand-over of its files completed. Raises `UsageError` where
    another process runs it.
    """
    async with open_store(settings.home) as store:
        info = await find(store, name)
        refuse_imported(info)
        refuse_running(info)
        state = await fold(store.log, info.run)
        if state.setup is None:
            raise UsageError(f"{info.run} has no event yet: its process ended before the run began. Start it anew.")
        if state.status in {"accepted", "failed"} and not changes:
            return await _finish(state, store)
        async with Parts(state.setup, settings, announce=announce) as parts:
            await parts.prepare()
            with carrying_on(info.run):
                try:
                    epoch = await store.log.take(info.run, this_process(), previous=info.owner)
                except Conflict as error:
                    raise UsageError(f"{info.run} was taken by another process just now: {error}") from error
                first = [*_settled(state, in_doubt), RunResumed(changes=dict(changes or {}))]
                return await carry_on(
                    state, first, store=store, parts=parts, epoch=epoch, home=settings.home, on_event=on_event
                )


def _settled(state: RunState, in_doubt: Callable[[Doubt], Verdict | None]) -> list[Event]:
    """Ask about each call in doubt; return what was said."""
    found: list[Event] = []
    for one in doubts(state, leases_end=True):
        verdict, call = in_doubt(one), one.call
        if verdict is not None:
            found.append(
                DoubtSettled(
                    request=one.request,
                    attempt=call.attempt,
                    path=call.path,
                    digest=call.digest,
                    tool=call.tool,
                    verdict=verdict,
                )
            )
    return found


async def find(store: Store, name: str) -> RunInfo:
    """Return the run that a person means: an id, a unique beginning of one, or `last`. Raises `UsageError`."""
    runs = await store.log.runs()
    if name == "last" and runs:
        return runs[0]
    exact = [info for info in runs if info.run == name]
    found = exact or [info for info in runs if info.run.startswith(name)]
    if len(found) == 1:
        return found[0]
    if not runs:
        raise UsageError(f"there is no run {name!r}: nothing has been run here yet. `swarm run SCENARIO` makes one.")
    names = ", ".join(info.run for info in (found or runs)[:5])
    what = f"{name!r} could be {len(found)} runs" if found else f"there is no run {name!r}"
    raise UsageError(f"{what} ({names}{', …' if len(found or runs) > 5 else ''}). `swarm runs` lists them.")  # noqa: PLR2004


def refuse_running(info: RunInfo) -> None:
    """Raise `UsageError` where another process runs this run."""
    if info.owner is not None and not has_left(info.owner, info.run):
        raise UsageError(
            f"{info.run} is run by process {info.owner.pid} on {info.owner.host}. "
            "Wait for it, or stop it first (Ctrl-C there, or `kill`)."
        )


def refuse_imported(info: RunInfo) -> None:
    """Raise `UsageError` where a run came from elsewhere."""
    if info.imported:
        raise UsageError(
            f"{info.run} was imported, and is only to be looked at. "
            f"`swarm fork {info.run} --at {info.length}` makes a run of your own that goes on from there."
        )


@asynccontextmanager
async def keeping(settings: Settings) -> AsyncIterator[Store]:
    """Open the store to change what is there, making none. Raises `UsageError` where nothing has been run."""
    async with reading(settings):
        pass
    async with open_store(settings.home) as store:
        yield store


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[Store]:
    """Open the store for looking only. Raises `UsageError` where nothing has been run."""
    try:
        async with open_store(settings.home, read_only=True) as store:
            yield store
            unkept = store.log.marks.unkept()
    except NotFound as error:
        raise UsageError(
            f"nothing has been run here yet ({settings.home} is not there). `swarm run SCENARIO` makes a run; "
            "SWARM_HOME names another place."
        ) from error
    if unkept:
        await _keep(settings.home, unkept)


async def _keep(home: Path, marks: Sequence[Mark]) -> None:
    """Keep what looking had to fold at length, for the next who looks."""
    try:
        async with open_store(home) as store:
            for mark in marks:
                store.log.marks.keep(mark)
    except BusError:
        return  # who may only look folds it again


def new_run_id(name: str) -> str:
    """Return an id for a run of a scenario: its name, the day, six random characters."""
    return f"{name}-{dt.datetime.now(dt.UTC):%Y%m%d}-{secrets.token_hex(3)}"


async def carry_on(
    state: RunState,
    first: Sequence[Event],
    *,
    store: Store,
    parts: Parts,
    epoch: int,
    home: Path,
    on_event: OnEvent | None,
) -> Outcome:
    """Run a run that this process owns to its end or pause, let go of it, and return what it came to."""
    told = 0

    def on_record(envelope: Envelope) -> None:
        nonlocal told
        told = envelope.sequence
        if on_event is not None:
            on_event(envelope)

    try:
        await execute(
            state, first, store=store, parts=parts, epoch=epoch, work=home / "work" / state.run, on_record=on_record
        )
    except ExceptionGroup as group:
        storage, rest = group.split((StorageFailed, Damaged))
        if storage is None or rest is not None:
            raise
        raise _stopped(state.run, storage, recorded=told > 0) from group
    finally:
        await asyncio.shield(_release(store, state.run, epoch))
    return await _finish(state, store)


def _stopped(run: str, group: ExceptionGroup[Exception], *, recorded: bool) -> MissingPart:
    """Return what to tell where a run could not be recorded any further."""
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if not recorded:
        return MissingPart(f"{run} did not begin: {error}", "When that is mended, run the scenario again.")
    return MissingPart(f"{run} is paused: {error}", f"When that is mended: `swarm resume {run}`.")


async def _add_to_recordings(kept: Mapping[str, Path], store: Store, run: str) -> None:
    """Add to each recording what it could not answer, also where the run is paused."""
    log = [envelope async for envelope in store.log.read(run)]
    for path in dict.fromkeys(kept.values()):
        roles = [role for role, file in kept.items() if file == path]
        found = recordings.additions(log, recordings.opened(path, may_be_new=True), roles)
        if found:
            recordings.write(path, found, add=True)


async def _release(store: Store, run: str, epoch: int) -> None:
    try:
        await store.log.release(run, epoch)
    except (StorageFailed, Damaged):
        return  # who finds the owner gone, or no longer at it, may take the run


async def _finish(state: RunState, store: Store) -> Outcome:
    """Hand the files of an ended run over and return its outcome."""
    folder = None
    if state.ended is not None:
        folder = await handover.hand_over(state.run, state.ended.files, store.files, Path(state.out_folder))
    return await with_head(outcome_of(state, folder=str(folder) if folder else None), store.log)


async def with_head(outcome: Outcome, log: EventLog) -> Outcome:
    """Return an outcome with the hash that its log ends in; as it is, where the log goes on after it."""
    length, head = await log.head(outcome.run)
    return outcome.model_copy(update={"head": head}) if length == outcome.events else outcome


async def _sandbox_works(setup: Setup, parts: Parts) -> None:
    """Try the sandbox before the run begins where a check of the scenario cannot do without."""
    criteria = [*setup.accept, *(entry for subtask in setup.plan or () for entry in subtask.accept)]
    if any("run" in criterion for criterion in criteria):
        await parts.sandbox.probe()


def _price_is_known(setup: Setup) -> None:
    if setup.limits.money is None:
        return
    unknown = sorted({role.model for role in setup.roles.values() if role.price is None})
    if unknown:
        raise ScenarioError(
            [
                Fault(
                    "value",
                    f"the price of {', '.join(unknown)} is not known, so `money` cannot be kept",
                    field="limits.money",
                    hint="Give the price under `endpoints` (USD a million tokens), or leave `money` out.",
                )
            ]
        )


def _refused(role: str, tool: str) -> ScenarioError:
    return ScenarioError(
        [
            Fault(
                "not_yet",
                f"tool {tool!r} asks a person before it acts, and approvals are not in this version",
                field=f"roles.{role}.tools",
                hint='Declare what it does: @tool(effect="reads"), or effect="outward" with needs_approval=False.',
            )
        ]
    )


def with_home(settings: Settings, home: Path | None) -> Settings:
    """Return settings with another place for the state."""
    return settings if home is None else dataclasses.replace(settings, home=home)
