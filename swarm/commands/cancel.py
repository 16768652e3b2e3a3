"""End a run that a hub carries on, as it stands: failed, with what is accepted so far."""

import argparse

from swarm.commands.arguments import add_run_and_bus

SUMMARY = "end a run of a hub as it stands"
EXAMPLES = """\
  swarm cancel brief-20260101-1a2b3c --bus mqtt://127.0.0.1
  swarm cancel last --bus mqtt://127.0.0.1 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    add_run_and_bus(parser)


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    from swarm.commands.remote import tell  # noqa: PLC0415 - loads what runs agents
    from swarm.commands.watching import stoppable  # noqa: PLC0415 - likewise

    return stoppable(lambda: tell(args, "cancel"))
