"""Take a run in from elsewhere: read whole, and tried, before anything of it is kept."""

import asyncio
from pathlib import Path

from bus.archive import Contents, check_archive, import_run
from bus.envelope import Envelope
from bus.errors import BadArchive
from bus.events import GoalSubmitted
from bus.store import open_store
from swarm.core.apply import apply
from swarm.core.state import RunState
from swarm.runs.outcome import outcome_of
from swarm.settings import Settings


async def take_in(path: Path, settings: Settings) -> Contents:
    """Take in the run of an archive. Raises what `check_archive` and `import_run` raise; then nothing of it is kept."""
    contents = await asyncio.to_thread(_checked, path)
    async with open_store(settings.place) as store:
        return await import_run(store, contents)


def _checked(path: Path) -> Contents:
    """Check an archive, and that its events add up to a run: whatever shows runs relies on that."""
    state = RunState("")

    def look(envelope: Envelope) -> None:
        if envelope.sequence == 1 and not isinstance(envelope.event, GoalSubmitted):
            raise BadArchive(f"{path}: its first event is {envelope.type}; a run begins with GoalSubmitted")
        try:
            apply(state, envelope)
        except Exception as error:  # the rules take it that a log was admitted; of this one nobody knows
            raise BadArchive(
                f"{path}: event {envelope.sequence} ({envelope.type}) does not follow from those before it: {error!r}"
            ) from error

    contents = check_archive(path, look)
    try:
        outcome_of(state)
    except Exception as error:
        raise BadArchive(f"{path}: its events add up to no outcome: {error!r}") from error
    return contents
