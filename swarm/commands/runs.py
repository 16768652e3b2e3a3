"""List what has been run here, newest first: how long ago, what it came to, the size of its log, its time and cost."""

import argparse

SUMMARY = "list what has been run"
EXAMPLES = """\
  swarm runs
  swarm runs --json | jq -r 'select(.outcome == "paused" or .interrupted) | .run'
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("--json", action="store_true", help="print a JSON object a line, one for each run")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    import asyncio  # noqa: PLC0415 - loads only where it is used

    return asyncio.run(_runs(as_json=args.json))


async def _runs(*, as_json: bool) -> int:
    """Return 0, or the status of the last damage that was met."""
    import json  # noqa: PLC0415 - loads only where it is used
    import os  # noqa: PLC0415 - likewise
    import sys  # noqa: PLC0415 - likewise

    from bus.errors import Damaged, NotFound  # noqa: PLC0415 - likewise
    from swarm.commands.failures import tell  # noqa: PLC0415 - likewise
    from swarm.commands.looking import outcome_now  # noqa: PLC0415 - likewise
    from swarm.commands.report import STYLES  # noqa: PLC0415 - likewise
    from swarm.runs import finding  # noqa: PLC0415 - likewise
    from swarm.runs.clock import utc_now  # noqa: PLC0415 - likewise
    from swarm.runs.folding import fold  # noqa: PLC0415 - likewise
    from swarm.runs.ownership import is_abandoned  # noqa: PLC0415 - likewise
    from swarm.settings import read_settings  # noqa: PLC0415 - likewise
    from swarm.views.measures import age, size  # noqa: PLC0415 - likewise
    from swarm.views.terminal import has_colour, one_line, paint, say, say_json  # noqa: PLC0415 - likewise
    from swarm.views.wording import clock, dollars  # noqa: PLC0415 - likewise

    colour, now, status = has_colour(sys.stdout), utc_now(), 0
    async with finding.reading(read_settings(os.environ)) as store:
        for info in await store.log.runs():
            try:
                state = await fold(store.log, info.run)
                outcome = await finding.with_head(await outcome_now(state, info), store.log)
            except Damaged as error:  # the others are to be seen all the same
                status = tell(error, as_json=as_json)
                continue
            except NotFound:  # removed since it was listed
                continue
            left = outcome.outcome == "running" and not info.imported and is_abandoned(info)
            if as_json:
                told = outcome.model_dump(mode="json", exclude={"files", "subtasks"})
                place = {"created": info.created, "bytes": info.bytes, "imported": info.imported, "interrupted": left}
                say_json(json.dumps(told | place, ensure_ascii=False))
                continue
            ended = paint(f"{outcome.outcome:<9}", STYLES[outcome.outcome], colour=colour)
            money = "" if outcome.cost_usd is None else f"  {dollars(outcome.cost_usd)}"
            goal = one_line(state.setup.goal, 60) if state.setup else "(never began)"
            how = f"{age(info.created, now):>4}  {ended}  {outcome.run}"
            mark = "  imported" if info.imported else "  interrupted" if left else ""
            say(f"{how}  {size(info.bytes)}  {clock(state.elapsed_ms)}{money}{mark}  {goal}")
    return status
