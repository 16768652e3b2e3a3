"""Go on with a run after a crash, a pause, Ctrl-C, or with a raised limit.

What was recorded is not paid for again. An ended run only has the hand-over of its files completed.
"""

import argparse

SUMMARY = "go on with a run"
EXAMPLES = """\
  swarm resume last
  swarm resume brief-20260101-1a2b3c --set limits.tokens=400k
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("run", metavar="RUN", help="a run's id, a unique beginning of it, or `last`")
    parser.add_argument(
        "--set", metavar="limits.X=V", action="append", default=[], help="raise a limit, such as limits.time=1h"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end, nothing else")
    parser.add_argument("--quiet", action="store_true", help="show no progress, only the outcome")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    import os  # noqa: PLC0415

    from swarm import launch  # noqa: PLC0415 - loads what runs agents
    from swarm.commands.watching import stoppable, watched  # noqa: PLC0415
    from swarm.scenario.model import change_limits  # noqa: PLC0415
    from swarm.settings import read_settings  # noqa: PLC0415

    changes = dict(change_limits(args.set))
    settings = read_settings(os.environ)
    return stoppable(
        lambda: watched(
            args,
            settings,
            lambda watch: launch.resume(
                args.run, settings, changes=changes, on_event=watch.on_event, announce=watch.announce
            ),
        )
    )
