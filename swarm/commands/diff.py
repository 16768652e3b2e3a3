"""Compare two runs: the first event where they part, then plan, results, files and cost side by side.

Exit status 0 if both did the same, 1 if not.
"""

import argparse
from typing import TYPE_CHECKING

from swarm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from swarm.runs.comparison import Comparison, Side, SubtaskPair
    from swarm.runs.outcome import Outcome

SUMMARY = "compare two runs"
EXAMPLES = """\
  swarm diff brief-20260101-1a2b3c brief-20260101-4d5e6f
  swarm diff last
  swarm diff brief-20260101-1a2b3c last --json | jq .parting.position
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("a", metavar="A", help="a run's id, a unique beginning of it, or `last`")
    parser.add_argument("b", metavar="B", nargs="?", help="another; by default the run that A was forked from")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    import asyncio  # noqa: PLC0415 - loads only where it is used

    return asyncio.run(_diff(args))


async def _diff(args: argparse.Namespace) -> int:
    import os  # noqa: PLC0415 - loads only where it is used

    from swarm.runs import finding  # noqa: PLC0415 - likewise
    from swarm.runs.comparison import compare, parting  # noqa: PLC0415 - likewise
    from swarm.runs.folding import fold  # noqa: PLC0415 - likewise
    from swarm.settings import read_settings  # noqa: PLC0415 - likewise
    from swarm.views.terminal import say, say_json, shown  # noqa: PLC0415 - likewise

    async with finding.reading(read_settings(os.environ)) as store:
        a = await finding.find(store, args.a)
        state = await fold(store.log, a.run)
        if args.b is None and state.parent is None:
            raise UsageError(f"{a.run} is no fork: name the run to compare it with.")
        b = await finding.find(store, state.parent or "" if args.b is None else args.b)
        where = await parting(aiter(store.log.read(a.run)), aiter(store.log.read(b.run)))
        found = compare(state, await fold(store.log, b.run), where)
        ends = {"a": await finding.with_head(found.a, store.log), "b": await finding.with_head(found.b, store.log)}
        found = found.model_copy(update=ends)
    if args.json:
        say_json(found.model_dump_json())
    else:
        for line in _lines(found):
            say(shown(line))
    return 0 if found.same else 1


def _lines(found: "Comparison") -> "Iterator[str]":
    yield f"a  {found.a.run}: {found.a.outcome}"
    yield f"b  {found.b.run}: {found.b.outcome}"
    if found.parting is None:
        yield "They did the same, event by event."
        return
    yield f"They part at event {found.parting.position}:"
    yield f"  a  {_event(found.parting.a)}"
    yield f"  b  {_event(found.parting.b)}"
    if found.subtasks:
        yield "Subtasks that differ:"
    for pair in found.subtasks:
        yield from _subtask(pair)
    if found.files:
        yield "Files that differ:"
    for file in found.files:
        yield f"  {file.path}: {file.what}"
    yield "Cost:"
    yield f"  a  {_cost(found.a)}"
    yield f"  b  {_cost(found.b)}"


def _event(side: "Side | None") -> str:
    import json  # noqa: PLC0415 - loads only where it is used

    from swarm.views.terminal import one_line  # noqa: PLC0415 - likewise

    if side is None:
        return "(its log ends before)"
    name = side.type.removeprefix("swarm.").rpartition(".")[0]
    return one_line(f"{name} {side.subject or ''} {json.dumps(side.data, ensure_ascii=False)}", 300)


def _subtask(pair: "SubtaskPair") -> "Iterator[str]":
    from swarm.views.terminal import one_line  # noqa: PLC0415 - loads only where it is used

    for name, standing, result in (("a", pair.a, pair.result_a), ("b", pair.b, pair.result_b)):
        if standing is None:
            yield f"  {pair.id:<16} {name}  not in its plan"
        else:
            status, attempts = standing
            tries = f", {attempts} attempts" if attempts > 1 else ""
            yield f"  {pair.id:<16} {name}  {status}{tries}: {one_line(result or 'no result', 120)}"


def _cost(outcome: "Outcome") -> str:
    from swarm.commands.report import cost_line  # noqa: PLC0415 - loads only where it is used

    return cost_line(outcome)
