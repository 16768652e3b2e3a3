"""Remove the files that no run's log names, and what killed processes left of their attempts.

A run stores a file before it names it, so this works only while no run is under way here. What forks need of a removed
run counts as named. Where removed runs have left much room in the database of logs, it is given back to the disk.
"""

import argparse
from typing import TYPE_CHECKING

from swarm.errors import UsageError

if TYPE_CHECKING:
    from bus.store import Store

SUMMARY = "remove files that no run names"
EXAMPLES = """\
  swarm gc --dry-run
  swarm gc
  swarm gc --json | jq .bytes
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed, remove nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    import asyncio  # noqa: PLC0415 - loads only where it is used

    return asyncio.run(_gc(args))


async def _gc(args: argparse.Namespace) -> int:
    import asyncio  # noqa: PLC0415 - loads only where it is used
    import json  # noqa: PLC0415 - likewise
    import os  # noqa: PLC0415 - likewise

    from bus.errors import Conflict  # noqa: PLC0415 - likewise
    from bus.references import unnamed  # noqa: PLC0415 - likewise
    from swarm.runs import finding  # noqa: PLC0415 - likewise
    from swarm.settings import read_settings  # noqa: PLC0415 - likewise
    from swarm.views.terminal import say  # noqa: PLC0415 - likewise
    from swarm.working.work_folder import left_behind  # noqa: PLC0415 - likewise

    settings, freed = read_settings(os.environ), 0
    async with finding.keeping(settings) as store:
        try:
            async with store.files.alone():
                there = await store.files.sizes()
                gone = await unnamed(store)
                folders = await asyncio.to_thread(left_behind, settings.home, remove=not args.dry_run)
                if not args.dry_run:
                    await store.files.remove(gone)
                    freed = await store.files.compact()
        except Conflict as error:
            raise UsageError(await _busy(store)) from error
    found = {
        "removed": len(gone),
        "bytes": sum(gone.values()),
        "folders": len(folders),
        "freed": freed,
        "kept": len(there) - len(gone),
        "kept_bytes": sum(there.values()) - sum(gone.values()),
        "dry_run": args.dry_run,
    }
    say(json.dumps(found) if args.json else _said(found))
    return 0


async def _busy(store: "Store") -> str:
    """Say why nothing was removed."""
    from swarm.runs.ownership import is_abandoned  # noqa: PLC0415 - loads only where it is used

    owned = [info for info in await store.log.runs() if not is_abandoned(info)]
    who = ", ".join(f"{info.run} (process {info.owner.pid} on {info.owner.host})" for info in owned[:5] if info.owner)
    return (
        f"nothing was removed: {who or 'another process'} is at work here, and may have stored files that no event "
        "names yet. Try again when it has ended."
    )


def _said(found: dict[str, int]) -> str:
    from swarm.views.measures import size  # noqa: PLC0415 - loads only where it is used

    files = f"{found['removed']:,} files ({size(found['bytes'])}) that no run names"
    folders = f" and {found['folders']:,} folders of processes that are gone" if found["folders"] else ""
    freed = f"; the logs take {size(found['freed'])} less" if found["freed"] else ""
    kept = f"{found['kept']:,} files ({size(found['kept_bytes'])}) are named and stay"
    return f"{'would remove' if found['dry_run'] else 'removed'} {files}{folders}{freed}; {kept}"
