"""Runs that are there: the one that a person means, and the store opened for looking or for keeping house."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from bus.errors import BusError, NotFound, StorageFailed
from bus.event_log import EventLog, Mark, RunInfo
from bus.store import Store, open_store
from swarm.errors import UsageError
from swarm.runs.outcome import Outcome
from swarm.runs.ownership import has_left, is_here, refuse_carried_on
from swarm.settings import Settings


async def find(store: Store, name: str) -> RunInfo:
    """Return the run that a person means: an id, a unique beginning of one, or `last`. Raises `UsageError`."""
    runs = await store.log.runs()
    if name == "last" and runs:
        return runs[0]
    exact = [info for info in runs if info.run == name]
    found = exact or [info for info in runs if name and info.run.startswith(name)]
    if len(found) == 1:
        return found[0]
    if not runs:
        raise UsageError(f"there is no run {name!r}: nothing has been run here yet. `swarm run SCENARIO` makes one.")
    names = ", ".join(info.run for info in (found or runs)[:5])
    what = f"{name!r} could be {len(found)} runs" if found else f"there is no run {name!r}"
    raise UsageError(f"{what} ({names}{', …' if len(found or runs) > 5 else ''}). `swarm runs` lists them.")  # noqa: PLR2004


async def refuse_running(store: Store, info: RunInfo, settings: Settings) -> None:
    """Raise `UsageError` where somebody runs this run.

    One of another host's name or container cannot be looked at, though it may have been of this machine. It is gone
    where nobody but us has the store open for writing; not of one on a server, to which it may come back.
    """
    refuse_carried_on(info.run)
    if info.owner is None or has_left(info.owner, info.run):
        return
    if not is_here(info.owner) and settings.store is None:
        with suppress(BusError):
            async with store.files.alone():
                return
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
    async with open_store(settings.place) as store:
        yield store


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[Store]:
    """Open the store for looking only. Raises `UsageError` where nothing has been run."""
    async with AsyncExitStack() as opened:
        try:
            store = await opened.enter_async_context(open_store(settings.place, read_only=True))
        except NotFound as error:
            missing = (
                "the server that SWARM_STORE names has no runs" if settings.store else f"no runs in {settings.home}"
            )
            raise UsageError(
                f"nothing has been run here yet ({missing}). `swarm run SCENARIO` makes a run; "
                "SWARM_HOME and SWARM_STORE name other places."
            ) from error
        yield store
        unkept = store.log.marks.unkept()
    if unkept:
        await _keep(settings.place, unkept)


async def _keep(place: Path | str, marks: Sequence[Mark]) -> None:
    """Keep what looking had to fold at length, for the next who looks."""
    try:
        async with open_store(place) as store:
            for mark in marks:
                store.log.marks.keep(mark)
    except BusError:
        return  # who may only look folds it again


async def with_head(outcome: Outcome, log: EventLog) -> Outcome:
    """Return an outcome with the hash that its log ends in; as it is, where the log goes on after it.

    Also as it is where the disk gives no answer: the outcome is recorded, and a hash less is no reason to lose it.
    """
    try:
        length, head = await log.head(outcome.run)
    except StorageFailed:
        return outcome
    return outcome.model_copy(update={"head": head}) if length == outcome.events else outcome
