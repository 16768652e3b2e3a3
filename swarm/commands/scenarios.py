"""List the scenarios that come with us."""

import argparse

SUMMARY = "list the scenarios that come with us"
EXAMPLES = """\
  swarm scenarios
  swarm run NAME
  swarm init brief.yaml --from NAME
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("--json", action="store_true", help="print a JSON object a line, one for each scenario")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    import json  # noqa: PLC0415 - loads only where it is used

    from swarm.commands.shipped import shipped  # noqa: PLC0415 - likewise
    from swarm.scenario.yaml_source import read_source  # noqa: PLC0415 - likewise
    from swarm.views.terminal import one_line, say, say_json  # noqa: PLC0415 - likewise

    for name, path in shipped().items():
        written = read_source(path).data
        about = str(written.get("description", "")) if isinstance(written, dict) else ""
        if args.json:
            say_json(json.dumps({"name": name, "description": about, "file": str(path)}, ensure_ascii=False))
        else:
            say(f"{name:<20} {one_line(about, 120)}")
    return 0
