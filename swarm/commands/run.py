"""Run a scenario: show progress live, then the outcome and where its files are."""

import argparse
import os
import sys
from pathlib import Path

from swarm.commands.arguments import new_folder
from swarm.views.terminal import note

SUMMARY = "run a scenario to its end"
EXAMPLES = """\
  swarm run brief.yaml
  swarm run brief.yaml --set company="a brewery" --set limits.time=10m
  swarm run brief.yaml --model openai:gpt-5-mini --model critic=ollama:qwen3:8b
  swarm run brief.yaml --model recorded:brief.jsonl --record-new
  swarm run brief.yaml --dry-run
  swarm run brief.yaml --json --quiet --out ./result | jq .outcome
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("scenario", metavar="SCENARIO", help="a scenario file, or the name of one that comes with us")
    parser.add_argument("--goal", metavar="TEXT", help="another goal than the file's")
    parser.add_argument("--set", metavar="PATH=VALUE", action="append", default=[], help="change the scenario")
    parser.add_argument(
        "--model", metavar="[ROLE=]MODEL", action="append", default=[], help="provider:name, for all roles or for one"
    )
    parser.add_argument(
        "--record-new",
        action="store_true",
        help="ask a live model what a recorded one does not know, and add it to the recording",
    )
    parser.add_argument("--out", metavar="DIR", help="folder for the files; by default ./RUN")
    parser.add_argument("--dry-run", action="store_true", help="say what would be used and allowed; start nothing")
    parser.add_argument("--trust", action="store_true", help="do not ask about the scenario's code, servers and files")
    parser.add_argument(
        "--bus",
        metavar="URL",
        help="a broker, whose agents work on it; others of ours come in where nobody offers a role",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end, nothing else")
    parser.add_argument("--quiet", action="store_true", help="show no progress, only the outcome")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    out = new_folder(args.out, "--out") if args.out else None
    if args.bus:
        from bus.broker_address import BrokerAddress  # noqa: PLC0415 - a bad address is told before anything is made

        BrokerAddress.parse(args.bus, os.environ)

    from swarm.commands.watching import stoppable  # noqa: PLC0415 - loads what runs agents

    return stoppable(lambda: _run(args, out), told="Stopped before the run began; nothing was recorded.")


async def _run(args: argparse.Namespace, out: Path | None) -> int:
    from swarm import launch  # noqa: PLC0415 - loads what runs agents
    from swarm.commands.choices import chosen_lines  # noqa: PLC0415 - likewise
    from swarm.commands.consent import consent  # noqa: PLC0415 - likewise
    from swarm.commands.dry_run import dry_run  # noqa: PLC0415 - likewise
    from swarm.commands.shipped import scenario_path  # noqa: PLC0415 - likewise
    from swarm.commands.watching import watched  # noqa: PLC0415 - likewise
    from swarm.preparation import preparing  # noqa: PLC0415 - loads what runs agents
    from swarm.scenario.draft import Surroundings  # noqa: PLC0415 - likewise
    from swarm.scenario.model import Scenario  # noqa: PLC0415 - likewise
    from swarm.settings import read_settings  # noqa: PLC0415 - likewise

    around = Surroundings(waits=bool(args.bus))  # agents there may have roles that are not known here
    scenario = Scenario.load(scenario_path(args.scenario), goal=args.goal, settings=args.set, around=around)
    elsewhere = preparing.elsewhere(scenario)
    settings = read_settings(os.environ, scenario.folder)
    show = (lambda _: None) if args.quiet or (args.json and not sys.stderr.isatty()) else note
    for line in (*scenario.warnings, *(f"not read: {place}" for place in settings.unread)):
        show(f"warning: {line}")
    choices = await preparing.chosen(scenario, settings, models=args.model, elsewhere=elsewhere)
    live = choices
    if args.record_new:
        live = await preparing.live_choices(scenario, settings, models=args.model, elsewhere=elsewhere)
    if args.dry_run:
        dry_run(scenario, live, settings, as_json=args.json)  # what is recorded costs nothing
        return 0
    for line in chosen_lines(choices):
        show(line)
    for line in chosen_lines(live) if args.record_new else ():
        show(f"not recorded, so live: {line}")
    await consent(scenario, given=args.trust, can_ask=sys.stdin.isatty() and sys.stderr.isatty() and not args.json)
    ready = await preparing.prepare(
        scenario, settings, models=args.model, record_new=args.record_new, elsewhere=elsewhere
    )
    return await watched(
        args,
        settings,
        lambda watch: launch.start(ready, settings, out=out, bus=args.bus, **watch._asdict()),
    )
