"""Take in a run from an archive that `swarm export` wrote, with its files.

All of the archive is checked before anything is kept. The run can be shown, read and exported; it goes on only as a
fork. Whether it is the one that was exported, the hash that both commands print tells.
"""

import argparse
from pathlib import Path

SUMMARY = "take a run in from a file"
EXAMPLES = """\
  swarm import brief.zip
  swarm import brief.zip --json | jq -r .head
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("file", metavar="FILE", type=Path, help="what `swarm export` wrote")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    import asyncio  # noqa: PLC0415 - loads only where it is used

    return asyncio.run(_import(args))


async def _import(args: argparse.Namespace) -> int:
    import os  # noqa: PLC0415 - loads only where it is used

    from swarm.commands.report import report_archive  # noqa: PLC0415 - likewise
    from swarm.runs.importing import take_in  # noqa: PLC0415 - likewise
    from swarm.settings import read_settings  # noqa: PLC0415 - likewise

    report_archive("imported", await take_in(args.file, read_settings(os.environ)), as_json=args.json)
    return 0
