"""Submit a scenario to the hubs on a bus; they run it with the agents that are there."""

import argparse
import os
import sys
from pathlib import Path

from swarm.commands.arguments import add_bus, new_folder

SUMMARY = "submit a scenario to the hubs on a bus"
EXAMPLES = """\
  swarm submit brief.yaml --bus mqtt://127.0.0.1 --follow
  swarm submit brief.yaml --bus mqtt://127.0.0.1 --set company="a brewery" --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("scenario", metavar="SCENARIO", help="a scenario file, or the name of one that comes with us")
    add_bus(parser)
    parser.add_argument("--follow", action="store_true", help="show the run, and take its files, until it ends")
    parser.add_argument("--goal", metavar="TEXT", help="another goal than the file's")
    parser.add_argument("--set", metavar="PATH=VALUE", action="append", default=[], help="change the scenario")
    parser.add_argument(
        "--model", metavar="[ROLE=]MODEL", action="append", default=[], help="provider:name, as the agents know it"
    )
    parser.add_argument("--out", metavar="DIR", help="with --follow: folder for the files; by default ./RUN")
    parser.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    parser.add_argument("--quiet", action="store_true", help="show no progress, only the outcome")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    out = new_folder(args.out, "--out") if args.out else None

    from swarm.commands.watching import stoppable  # noqa: PLC0415 - loads what runs agents

    return stoppable(lambda: _run(args, out))


async def _run(args: argparse.Namespace, out: Path | None) -> int:
    import asyncio  # noqa: PLC0415 - loads only where it is used
    import json  # noqa: PLC0415 - likewise

    from swarm import launch  # noqa: PLC0415 - likewise
    from swarm.commands.following import followed, sender  # noqa: PLC0415 - likewise
    from swarm.commands.shipped import scenario_path  # noqa: PLC0415 - likewise
    from swarm.runs.handover import refuse_unusable  # noqa: PLC0415 - likewise
    from swarm.scenario.model import Scenario  # noqa: PLC0415 - likewise
    from swarm.settings import read_settings  # noqa: PLC0415 - likewise
    from swarm.submissions.client import client_on  # noqa: PLC0415 - likewise
    from swarm.submissions.packing import SUBMITTING, pack  # noqa: PLC0415 - likewise
    from swarm.views.terminal import note, say  # noqa: PLC0415 - likewise

    scenario = Scenario.load(scenario_path(args.scenario), goal=args.goal, settings=args.set, around=SUBMITTING)
    settings = read_settings(os.environ, scenario.folder)
    show = (lambda _: None) if args.quiet or (args.json and not sys.stderr.isatty()) else note
    async with client_on(args.bus, announce=show) as client:
        run = launch.new_run_id(scenario.name)
        target = out or Path.cwd() / run
        if args.follow:
            await asyncio.to_thread(refuse_unusable, target)
        submission, places = await asyncio.to_thread(  # the broker is not to take us for gone meanwhile
            pack, scenario, run=run, client=client.name, home=settings.home, models=args.model
        )
        hub, warnings = await client.submit(submission, sender(client, places))
        for line in warnings:
            show(f"warning: {line}")
        if not args.follow:
            say(json.dumps({"run": submission.run, "hub": hub}) if args.json else submission.run)
            return 0
        show(f"{submission.run} is with hub {hub}")
        return await followed(args, client, submission.run, target)
