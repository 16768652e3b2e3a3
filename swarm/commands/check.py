"""Check a scenario: every error with file, line and field, or what the scenario may do.

Imports nothing of the scenario's, starts nothing, asks no model.
"""

import argparse

SUMMARY = "check a scenario, and say what it may do"
EXAMPLES = """\
  swarm check brief.yaml
  swarm check brief.yaml --set limits.tokens=50k
  swarm check brief.yaml --json | jq '.errors[] | {line, field, message}'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("scenario", metavar="SCENARIO", help="a scenario file, or the name of one that comes with us")
    parser.add_argument("--goal", metavar="TEXT", help="another goal than the file's")
    parser.add_argument("--set", metavar="PATH=VALUE", action="append", default=[], help="change the scenario")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    import json  # noqa: PLC0415 - loads only where it is used

    from swarm.commands.granted import said  # noqa: PLC0415 - likewise
    from swarm.commands.shipped import scenario_path  # noqa: PLC0415 - likewise
    from swarm.scenario.may import may  # noqa: PLC0415 - likewise
    from swarm.scenario.model import Scenario  # noqa: PLC0415 - likewise
    from swarm.views.terminal import one_line, say, say_json  # noqa: PLC0415 - likewise

    scenario = Scenario.load(scenario_path(args.scenario), goal=args.goal, settings=args.set)
    found = may(scenario)
    if args.json:
        answer = {
            "ok": True,
            "scenario": scenario.name,
            "roles": list(scenario.roles),
            "tools": found["tools"],
            "may": found,
            "warnings": list(scenario.warnings),
        }
        say_json(json.dumps(answer, ensure_ascii=False))
        return 0
    for warning in scenario.warnings:
        say(f"warning: {one_line(warning, 500)}")
    say(f"{scenario.name} is good. It may:")
    for line in said(found):
        say(f"  {line}")
    return 0
