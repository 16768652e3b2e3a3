"""Start a run, go on with one, carry one to its end: what `swarm.run` and the command line share."""

import asyncio
import datetime as dt
import secrets
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from bus.envelope import Envelope
from bus.errors import Conflict, Damaged, StorageFailed
from bus.event_log import RunInfo
from bus.events import CancelAsked, Event, GoalSubmitted, RunResumed
from bus.setup import Setup
from bus.store import Store, open_store
from swarm.core.doubts import Doubt, doubts
from swarm.core.state import RunState, Verdict
from swarm.errors import MissingPart, UsageError
from swarm.orchestration.link import Link, over_broker
from swarm.preparation import workspace
from swarm.preparation.model_choice import is_recorded
from swarm.preparation.parts import Parts
from swarm.preparation.preparing import Ready
from swarm.raised import leaves
from swarm.runs import handover
from swarm.runs.finding import find, keeping, reading, refuse_imported, refuse_running, with_head
from swarm.runs.folding import fold
from swarm.runs.outcome import Outcome, outcome_of
from swarm.runs.ownership import carrying_on, this_process
from swarm.runtime import execute
from swarm.scenario.model import workspace_paths
from swarm.scenario.trust import differing, file_hashes, role_hashes
from swarm.settings import Settings
from swarm.version import VERSION
from swarm.working.work_folder import work_folder

OnEvent = Callable[[Envelope], None]
OnState = Callable[[RunState], None]
"""Given a run's state, which goes on with the run, before its first event."""


async def start(
    ready: Ready,
    settings: Settings,
    *,
    out: Path | None = None,
    bus: str | None = None,
    on_state: OnState = lambda _: None,
    on_event: OnEvent | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Run a scenario to its end and hand its files over. Cancelling pauses the run.

    `bus`: the URL of a broker, whose agents work on it; this process brings only those that nobody there offers.
    Raises `UsageError` before the run begins where `out`, by default `./RUN`, could not be made in the end.
    """
    setup, kept = ready.setup, ready.recordings
    run = new_run_id(setup.name)
    target = (out or Path.cwd() / run).absolute()
    ours = frozenset(name for name, role in setup.roles.items() if role.uses)
    async with (
        open_store(settings.place) as store,
        Parts(setup, settings, announce=announce, recordings=kept, behind=ready.behind) as parts,
        over_broker(bus, store, ours=ours, announce=announce) if bus else nullcontext() as link,
    ):
        await asyncio.to_thread(handover.refuse_unusable, target)
        await _sandbox_works(setup, parts)
        await parts.prepare()
        runs = await _names(store) if ready.scenario.workspace else ()
        files = await workspace.take_in(ready.scenario, store.files, home=settings.home, runs=runs)
        for name in sorted(ready.elsewhere):
            if link is None or not link.roster.offers(name):
                announce(f"nobody offers the role {name!r} yet: the run waits for it")
        epoch = await store.log.create(run, this_process())
        first = GoalSubmitted(
            setup=setup,
            workspace=files,
            hashes=file_hashes(ready.scenario) | role_hashes(setup.roles),
            software=VERSION,
            out=str(target),
        )
        try:
            with carrying_on(run):
                return await carry_on(
                    RunState(run),
                    [first],
                    store=store,
                    parts=parts,
                    epoch=epoch,
                    home=settings.home,
                    on_state=on_state,
                    on_event=on_event,
                    link=link,
                )
        finally:
            if kept:
                await asyncio.shield(_add_to_recordings(kept, store, run, ready.behind))


@dataclass(frozen=True, slots=True)
class Begun:
    """A run to go on with. `settings`: with the keys in the `.env` beside its scenario; `differs`: what changed."""

    run: str
    settings: Settings
    differs: tuple[str, ...] = ()
    """Files of the scenario, its code and its workspace that are gone, other or new since it began."""


async def begun(name: str, read: Callable[[Path | None], Settings]) -> Begun:
    """Look a run up that is to be gone on with. `read`: the settings by the scenario's folder. Raises `UsageError`."""
    settings = read(None)
    first = None
    async with reading(settings) as store:
        info = await find(store, name)
        refuse_imported(info)
        async for envelope in store.log.read(info.run, 1, 1):
            first = envelope.event
        runs = await _names(store)
    if not isinstance(first, GoalSubmitted):
        return Begun(info.run, settings)
    settings = read(Path(first.setup.folder))
    return Begun(info.run, settings, await asyncio.to_thread(_differing, first, settings.home, runs))


async def _names(store: Store) -> frozenset[str]:
    """Return the runs there are, of which folders may lie in a workspace."""
    return frozenset(info.run for info in await store.log.runs())


def _differing(begun: GoalSubmitted, home: Path, runs: Container[str]) -> tuple[str, ...]:
    setup = begun.setup
    folder = Path(setup.folder)
    found = differing(begun.hashes, folder, setup.roles)
    if not begun.client:  # else its folder is with who submitted it
        paths = workspace_paths(setup.written, setup.inputs)
        found += workspace.differing(paths, folder, begun.workspace, home=home, runs=runs, out=Path(begun.out))
    return tuple(dict.fromkeys(found))


async def resume(
    name: str,
    settings: Settings,
    *,
    changes: Mapping[str, JsonValue] | None = None,
    in_doubt: Callable[[Doubt], Verdict | None] = lambda _: None,
    on_state: OnState = lambda _: None,
    on_event: OnEvent | None = None,
    announce: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Go on with a run that was paused, killed, or hit a limit that `changes` raises.

    `in_doubt` says what becomes of an outward call that was begun and whose outcome nobody knows; where it says
    nothing the run pauses again. An ended run only has the hand-over of its files completed. Raises `UsageError` where
    another process runs it.
    """
    async with open_store(settings.place) as store:
        info, state, setup = await _standing(store, name, settings)
        if state.stays_ended(changes or {}):
            return await _finish(state, store)
        if theirs := sorted(name for name, role in setup.roles.items() if role.brought):
            raise UsageError(
                f"{info.run} needs agents elsewhere for {', '.join(theirs)}, and a run of this machine is gone on with "
                "here alone. Hand it in to a hub: swarm submit SCENARIO --bus URL, which resumes it too."
            )
        played = any(is_recorded(role.model) for role in setup.roles.values())
        behind = [envelope async for envelope in store.log.read(info.run)] if played else []
        async with Parts(setup, settings, announce=announce, behind=behind) as parts:
            await parts.prepare()
            with carrying_on(info.run):
                epoch = await _taken(store, info)
                first = [*_settled(state, in_doubt), RunResumed(changes=dict(changes or {}))]
                return await carry_on(
                    state,
                    first,
                    store=store,
                    parts=parts,
                    epoch=epoch,
                    home=settings.home,
                    on_state=on_state,
                    on_event=on_event,
                )


async def cancel(name: str, settings: Settings) -> Outcome:
    """End a run that is paused, or whose process was killed, as it stands.

    Raises `UsageError` where it has not begun, has ended, or another process runs it.
    """
    async with keeping(settings) as store:
        info, state, setup = await _standing(store, name, settings)
        if state.ended is not None:
            raise UsageError(f"{info.run} has ended, {'' if state.status == 'accepted' else 'not '}accepted.")
        async with Parts(setup, settings) as parts:
            with carrying_on(info.run):
                epoch = await _taken(store, info)
                first = [CancelAsked(reason="cancelled by a person")]
                return await carry_on(state, first, store=store, parts=parts, epoch=epoch, home=settings.home)


async def _standing(store: Store, name: str, settings: Settings) -> tuple[RunInfo, RunState, Setup]:
    """Return a run of ours that has begun and that nobody is at. Raises `UsageError` for any other."""
    info = await find(store, name)
    refuse_imported(info)
    await refuse_running(store, info, settings)
    state = await fold(store.log, info.run)
    if state.setup is None or not info.bytes:  # all there is of a fork may be its past, which another has written
        raise UsageError(f"{info.run} has no event of its own: its process ended before it began. Start it anew.")
    return info, state, state.setup


async def _taken(store: Store, info: RunInfo) -> int:
    """Own a run, and return its epoch. Raises `UsageError` where another process was quicker."""
    try:
        return await store.log.take(info.run, this_process(), previous=info.owner)
    except Conflict as error:
        raise UsageError(f"{info.run} was taken by another process just now: {error}") from error


def _settled(state: RunState, in_doubt: Callable[[Doubt], Verdict | None]) -> list[Event]:
    """Ask about each call in doubt; return what was said."""
    found: list[Event] = []
    for one in doubts(state, leases_end=True):
        verdict = in_doubt(one)
        if verdict is not None:
            found.append(one.settled(verdict))
    return found


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
    on_state: OnState = lambda _: None,
    on_event: OnEvent | None = None,
    link: Link | None = None,
) -> Outcome:
    """Run a run that this process owns to its end or pause, let go of it, and return what it came to."""
    told = 0

    def on_record(envelope: Envelope) -> None:
        nonlocal told
        told = envelope.sequence
        if on_event is not None:
            on_event(envelope)

    on_state(state)
    try:
        async with work_folder(home, state.run) as work:
            await execute(
                state,
                first,
                store=store,
                parts=parts,
                epoch=epoch,
                work=work,
                on_record=on_record,
                link=link,
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
    error = next(leaves(group))
    if not recorded:
        return MissingPart(f"{run} did not begin: {error}", "When that is mended, run the scenario again.")
    return MissingPart(f"{run} is paused: {error}", f"When that is mended: `swarm resume {run}`.")


async def _add_to_recordings(kept: Mapping[str, Path], store: Store, run: str, behind: Sequence[Envelope]) -> None:
    """Add to each recording what it could not answer, also where the run is paused."""
    from swarm.preparation import recordings  # noqa: PLC0415 - only recorded models need it

    log = [envelope async for envelope in store.log.read(run)]
    for path in dict.fromkeys(kept.values()):
        roles = [role for role, file in kept.items() if file == path]
        found = recordings.additions(log, recordings.opened(path, may_be_new=True, behind=behind), roles)
        if found:
            recordings.write(path, found, add=True)


async def _release(store: Store, run: str, epoch: int) -> None:
    try:
        await store.log.release(run, epoch)
    except (StorageFailed, Damaged):
        return  # who finds the owner gone, or no longer at it, may take the run


async def _finish(state: RunState, store: Store) -> Outcome:
    """Hand the files of an ended run over, if it has a folder for them, and return its outcome."""
    folder, not_written = None, ""
    if state.ended is not None and (target := state.out_folder) is not None:
        folder, not_written = await handover.try_to_hand_over(state.run, state.ended.files, store.files, Path(target))
    outcome = outcome_of(state, folder=str(folder) if folder else None, not_written=not_written)
    return await with_head(outcome, store.log)


async def _sandbox_works(setup: Setup, parts: Parts) -> None:
    """Try the sandbox before the run begins where a check of the scenario cannot do without."""
    criteria = [*setup.accept, *(entry for subtask in setup.plan or () for entry in subtask.accept)]
    if any("run" in criterion for criterion in criteria):
        await parts.sandbox.probe()
