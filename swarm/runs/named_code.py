"""Code that a log names: what going through it again loads.

Of a log that was written elsewhere nobody knows whether what its setups name is what their scenario says.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from bus.event_log import RunInfo
from bus.events import GoalSubmitted, RunForked
from bus.setup import Setup
from bus.store import Store
from swarm.scenario.own_code import brought_with, find, is_reference
from swarm.scenario.trust import file_hash


class NamedCode(NamedTuple):
    """One class or tool that a setup names, and that is not ours."""

    reference: str
    """As `uses` and `tools` have it."""
    folder: Path
    """Where a file is found from."""
    options: str
    """What a role's class is made with, as JSON; "" of a tool."""


async def from_elsewhere(store: Store, info: RunInfo, tools: Collection[str] = ()) -> list[NamedCode]:
    """Return the code that the setups of a run's log name, each once; none where all of the log was written here.

    A fork's log begins with its forebears': one of them may have been imported, or is gone. `tools`: names that stand
    for tools of this person's own choice.
    """
    own = {one.run for one in await store.log.runs() if not one.imported}
    async for first in store.log.read(info.run, 1, 1):
        if info.run in own and first.correlation_id == info.run:
            return []
    writers = {info.run}
    found: dict[NamedCode, None] = {}
    async for envelope in store.log.read(info.run):
        writers.add(envelope.correlation_id)
        if isinstance(envelope.event, RunForked):
            writers.add(envelope.event.parent)
        if isinstance(envelope.event, GoalSubmitted | RunForked):
            found |= dict.fromkeys(_named(envelope.event.setup, tools))
    return [] if writers <= own else [*found]


def hash_of(code: Sequence[NamedCode]) -> str:
    """Return the SHA-256 of code that a log names, with all that it imports from beside it. Raises `CodeFault`."""
    files = brought_with(find(one.reference, one.folder)[0] for one in code)
    named = sorted([one.reference, str(one.folder.absolute()), one.options] for one in code)
    return sha256(json.dumps(["log", named, [[str(path), file_hash(path)] for path in files]]).encode()).hexdigest()


def _named(setup: Setup, tools: Collection[str]) -> Iterator[NamedCode]:
    folder = Path(setup.folder)
    for role in setup.roles.values():
        if role.brought:
            continue  # its code is with the agents that offer it
        if role.uses and is_reference(role.uses):
            yield NamedCode(role.uses, folder, json.dumps(role.options, sort_keys=True))
        yield from (NamedCode(tool, folder, "") for tool in role.tools if is_reference(tool) and tool not in tools)
