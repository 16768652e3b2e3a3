"""Go on with a run after a crash, a pause, Ctrl-C, or with a raised limit.

What was recorded is not paid for again. It goes on with the scenario and its files as they were when it began; which of
them are other on disk by now is said. An ended run only has the hand-over of its files completed.

A call of a tool that acts on the outside world (a mail, an order) may have been begun and not have told its outcome. It
is not repeated unasked: on a terminal you are asked, else --in-doubt says what becomes of it. `retry` does it again,
`skip` goes on as if it were done and tells the agent so, `fail` ends the subtask.
"""

import argparse
import sys
from typing import TYPE_CHECKING

from swarm.commands.arguments import add_optional_bus
from swarm.views.terminal import note, one_line, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from swarm.core.state import Verdict
    from swarm.settings import Settings

_MOST_NAMED = 20
SUMMARY = "go on with a run"
EXAMPLES = """\
  swarm resume last
  swarm resume brief-20260101-1a2b3c --set limits.tokens=400k
  swarm resume last --in-doubt skip
  swarm resume last --bus mqtt://127.0.0.1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("run", metavar="RUN", help="a run's id, a unique beginning of it, or `last`")
    parser.add_argument(
        "--set", metavar="limits.X=V", action="append", default=[], help="raise a limit, such as limits.time=1h"
    )
    parser.add_argument(
        "--in-doubt",
        choices=["retry", "skip", "fail"],
        help="what becomes of calls of which nobody knows whether they were done",
    )
    add_optional_bus(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end, nothing else")
    parser.add_argument("--quiet", action="store_true", help="show no progress, only the outcome")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    from swarm.commands.watching import stoppable  # noqa: PLC0415 - loads what runs agents

    if args.bus:
        from swarm.commands.remote import resume  # noqa: PLC0415 - loads what speaks with hubs
        from swarm.scenario.model import change_limits  # noqa: PLC0415 - likewise

        return stoppable(lambda: resume(args, dict(change_limits(args.set))))
    return stoppable(lambda: _resume(args), told="Stopped before the run went on; nothing was recorded.")


async def _resume(args: argparse.Namespace) -> int:
    import os  # noqa: PLC0415 - loads only where it is used
    from functools import partial  # noqa: PLC0415 - likewise

    from swarm import launch  # noqa: PLC0415 - likewise
    from swarm.commands.watching import watched  # noqa: PLC0415 - likewise
    from swarm.scenario.model import change_limits  # noqa: PLC0415 - likewise
    from swarm.settings import read_settings  # noqa: PLC0415 - likewise

    changes = dict(change_limits(args.set))
    can_ask = sys.stdin.isatty() and sys.stderr.isatty() and not args.json
    begun = await launch.begun(args.run, partial(read_settings, os.environ))
    run, settings = begun.run, begun.settings
    _warn(begun.differs)
    # Asked before anything is drawn: a view would draw over the question.
    said = await _asked(run, settings, changes) if can_ask and not args.in_doubt else {}
    return await watched(
        args,
        settings,
        lambda watch: launch.resume(
            run,
            settings,
            changes=changes,
            in_doubt=lambda doubt: args.in_doubt or said.get((doubt.request, doubt.call.digest)),
            **watch._asdict(),
        ),
    )


def _warn(differing: "Sequence[str]") -> None:
    for name in differing[:_MOST_NAMED]:
        note(f"warning: {one_line(name, 500)} is not what it was when the run began")
    if len(differing) > _MOST_NAMED:
        note(f"warning: nor are {len(differing) - _MOST_NAMED} more files")
    if differing:
        note("The run goes on with the scenario and the files as they were, and with code as it is now.")


async def _asked(run: str, settings: "Settings", changes: "Mapping[str, object]") -> "dict[tuple[str, str], Verdict]":
    """Ask a person about each call in doubt of a run that goes on; return what they say, by request and digest."""
    from swarm.commands.asking import answer  # noqa: PLC0415 - likewise
    from swarm.core.doubts import doubts, told  # noqa: PLC0415 - likewise
    from swarm.core.state import VERDICTS  # noqa: PLC0415 - likewise
    from swarm.runs import finding  # noqa: PLC0415 - loads only where it is used
    from swarm.runs.folding import fold  # noqa: PLC0415 - likewise

    async with finding.keeping(settings) as store:
        await finding.refuse_running(store, await finding.find(store, run), settings)
        state = await fold(store.log, run)
    if state.stays_ended(changes):
        return {}
    found: dict[tuple[str, str], Verdict] = {}
    for doubt in doubts(state, leases_end=True):
        note(shown(told([doubt])))
        said = (await answer("[r]etry, [s]kip or [f]ail? ")).lower()
        for verdict in VERDICTS:
            if said in {verdict, verdict[0]}:
                found[doubt.request, doubt.call.digest] = verdict
    return found
