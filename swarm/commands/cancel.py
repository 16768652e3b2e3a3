"""End a run as it stands: failed, with what is accepted so far.

With --bus a run that a hub carries on, or that is paused there; else one of this machine that is paused, or whose
process was killed. A run that goes on in a process of this machine is stopped there first (Ctrl-C).
"""

import argparse

from swarm.commands.arguments import add_optional_bus

SUMMARY = "end a run as it stands"
EXAMPLES = """\
  swarm cancel last
  swarm cancel brief-20260101-1a2b3c --bus mqtt://127.0.0.1
  swarm cancel last --bus mqtt://127.0.0.1 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("run", metavar="RUN", help="a run's id, a unique beginning of it, or `last`")
    add_optional_bus(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    from swarm.commands.watching import stoppable  # noqa: PLC0415 - loads what runs agents

    if args.bus:
        from swarm.commands.remote import tell  # noqa: PLC0415 - loads what speaks with hubs

        return stoppable(lambda: tell(args, "cancel"))
    return stoppable(lambda: _cancel(args))


async def _cancel(args: argparse.Namespace) -> int:
    import os  # noqa: PLC0415 - loads only where it is used

    from swarm import launch  # noqa: PLC0415 - likewise
    from swarm.commands.report import report  # noqa: PLC0415 - likewise
    from swarm.settings import read_settings  # noqa: PLC0415 - likewise
    from swarm.views.terminal import say  # noqa: PLC0415 - likewise

    outcome = await launch.cancel(args.run, read_settings(os.environ))
    if args.json:
        report(outcome, as_json=True)
    else:
        say(f"{outcome.outcome}  {outcome.run}")
    return 0
