"""Pause a run that a hub carries on; `swarm resume RUN --bus URL` goes on with it."""

import argparse

SUMMARY = "pause a run of a hub"
EXAMPLES = """\
  swarm pause brief-20260101-1a2b3c --bus mqtt://127.0.0.1
  swarm pause last --bus mqtt://127.0.0.1 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("run", metavar="RUN", help="a run's id, a unique beginning of it, or `last`")
    parser.add_argument("--bus", metavar="URL", required=True, help="the broker: mqtt://HOST[:PORT] or mqtts://…")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    from swarm.commands.remote import tell  # noqa: PLC0415 - loads what runs agents
    from swarm.commands.watching import stoppable  # noqa: PLC0415 - likewise

    return stoppable(lambda: tell(args, "pause"))
