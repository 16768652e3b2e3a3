"""Pause a run that a hub carries on; `swarm resume RUN --bus URL` goes on with it."""

import argparse

from swarm.commands.arguments import add_run_and_bus

SUMMARY = "pause a run of a hub"
EXAMPLES = """\
  swarm pause brief-20260101-1a2b3c --bus mqtt://127.0.0.1
  swarm pause last --bus mqtt://127.0.0.1 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    add_run_and_bus(parser)


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    from swarm.commands.remote import tell  # noqa: PLC0415 - loads what runs agents
    from swarm.commands.watching import stoppable  # noqa: PLC0415 - likewise

    return stoppable(lambda: tell(args, "pause"))
