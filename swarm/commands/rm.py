"""Remove a run: its log, and the folders of its attempts. It cannot be brought back; `swarm export` keeps it elsewhere.

Forks of it stay whole. The files of its outcome that were handed over stay where they are. Files that only it names
take room until `swarm gc`.
"""

import argparse
from typing import TYPE_CHECKING

from swarm.errors import UsageError

if TYPE_CHECKING:
    from bus.event_log import RunInfo

SUMMARY = "remove a run"
EXAMPLES = """\
  swarm rm brief-20260101-1a2b3c
  swarm rm last --yes
  swarm runs --json | jq -r 'select(.outcome == "failed") | .run' | xargs -n 1 swarm rm --yes
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("run", metavar="RUN", help="a run's id, a unique beginning of it, or `last`")
    parser.add_argument("--yes", action="store_true", help="do not ask; in scripts nobody can be asked")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    import asyncio  # noqa: PLC0415 - loads only where it is used

    return asyncio.run(_rm(args))


async def _rm(args: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415 - loads only where it is used
    import json  # noqa: PLC0415 - likewise
    import os  # noqa: PLC0415 - likewise

    from agents.files.removal import remove_tree  # noqa: PLC0415 - likewise
    from bus.private_folder import WORK  # noqa: PLC0415 - likewise
    from swarm.runs import finding  # noqa: PLC0415 - likewise
    from swarm.settings import read_settings  # noqa: PLC0415 - likewise
    from swarm.views.terminal import say  # noqa: PLC0415 - likewise

    settings = read_settings(os.environ)
    async with finding.keeping(settings) as store:
        info = await finding.find(store, args.run)
        await finding.refuse_running(store, info, settings)
        if not args.yes:
            await _ask(info, as_json=args.json)
        await store.log.remove(info.run, previous=info.owner)
        await asyncio.to_thread(remove_tree, settings.home / WORK / info.run)
    gone = {"removed": info.run, "events": info.length, "bytes": info.bytes}
    say(json.dumps(gone) if args.json else f"removed {info.run}; `swarm gc` frees the files that only it had")
    return 0


async def _ask(info: "RunInfo", *, as_json: bool) -> None:
    """Return if a person says yes. Raises `UsageError`."""
    import sys  # noqa: PLC0415 - loads only where it is used

    from swarm.commands.asking import says_yes  # noqa: PLC0415 - likewise
    from swarm.runs.clock import utc_now  # noqa: PLC0415 - likewise
    from swarm.views.measures import age, size  # noqa: PLC0415 - likewise
    from swarm.views.terminal import note  # noqa: PLC0415 - likewise

    if as_json or not sys.stdin.isatty():
        raise UsageError(f"nobody is here to ask whether {info.run} is to be removed. Say so with --yes.")
    note(f"{info.run}: {info.length:,} events, {size(info.bytes)}, begun {age(info.created, utc_now())} ago.")
    if not await says_yes("Remove it? It cannot be brought back."):
        raise UsageError("nothing was removed.")
