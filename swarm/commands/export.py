"""Write a run with its files into one archive, to keep it or to move it to another machine.

The archive holds all that the run's agents read and said. The hash that is printed is the head of its chain of events:
`swarm import` prints it too, and it changes with any event.
"""

import argparse
from pathlib import Path

SUMMARY = "write a run into one file"
EXAMPLES = """\
  swarm export last brief.zip
  swarm export brief-20260101-1a2b3c brief.zip --json | jq -r .head
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("run", metavar="RUN", help="a run's id, a unique beginning of it, or `last`")
    parser.add_argument("file", metavar="FILE", type=Path, help="the new file, a zip; nothing is overwritten")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    import asyncio  # noqa: PLC0415 - loads only where it is used

    return asyncio.run(_export(args))


async def _export(args: argparse.Namespace) -> int:
    import os  # noqa: PLC0415 - loads only where it is used

    from bus.archive import export_run  # noqa: PLC0415 - likewise
    from swarm.commands.report import report_archive  # noqa: PLC0415 - likewise
    from swarm.runs import finding  # noqa: PLC0415 - likewise
    from swarm.settings import read_settings  # noqa: PLC0415 - likewise

    async with finding.reading(read_settings(os.environ)) as store:
        info = await finding.find(store, args.run)
        report_archive("exported", await export_run(store, info.run, args.file), as_json=args.json)
    return 0
