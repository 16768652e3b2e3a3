"""Show one run, now or at any position of its log: plan, subtasks, attempts, cost, outcome, files."""

import argparse
from pathlib import Path

from swarm.commands.arguments import add_optional_bus, new_folder, position
from swarm.errors import UsageError

SUMMARY = "show one run, at any position"
EXAMPLES = """\
  swarm show last
  swarm show brief-20260101-1a2b3c --at 40
  swarm show last --at 40 --files ./as-it-was
  swarm show last --json | jq .tokens
  swarm show last --bus mqtt://127.0.0.1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("run", metavar="RUN", help="a run's id, a unique beginning of it, or `last`")
    parser.add_argument("--at", metavar="N", type=position, help="as it was after event N")
    parser.add_argument("--files", metavar="DIR", help="write the files of the run's tree into a new folder")
    add_optional_bus(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    import asyncio  # noqa: PLC0415 - loads only where it is used

    folder = new_folder(args.files, "--files") if args.files else None
    if args.bus:
        from swarm.commands.remote import show  # noqa: PLC0415 - loads what speaks with hubs

        return asyncio.run(show(args, folder))
    return asyncio.run(_show(args, folder))


async def _show(args: argparse.Namespace, folder: Path | None) -> int:
    import os  # noqa: PLC0415 - loads only where it is used

    from swarm.commands.looking import outcome_now  # noqa: PLC0415 - likewise
    from swarm.commands.report import report  # noqa: PLC0415 - likewise
    from swarm.runs import finding, handover  # noqa: PLC0415 - likewise
    from swarm.runs.folding import fold  # noqa: PLC0415 - likewise
    from swarm.settings import read_settings  # noqa: PLC0415 - likewise

    async with finding.reading(read_settings(os.environ)) as store:
        info = await finding.find(store, args.run)
        if args.at is not None and args.at > info.length:
            raise UsageError(f"{info.run} has {info.length} events; there is no event {args.at}.")
        state = await fold(store.log, info.run, end=args.at)
        past = args.at is not None and args.at < info.length
        outcome = await finding.with_head(await outcome_now(state, info), store.log)
        if past and outcome.outcome == "running":
            outcome = outcome.model_copy(update={"reason": f"as it was after event {args.at} of {info.length}"})
        if folder is not None:
            wanted = tuple(state.tree.values())
            made = await handover.hand_over(info.run, wanted, store.files, folder)
            outcome = outcome.model_copy(update={"files": wanted, "folder": str(made) if made else None})
    report(outcome, as_json=args.json, imported=info.imported)
    return 0
