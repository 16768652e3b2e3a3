"""Read a run's event log: when, who, what, to whom, why, and what it cost.

With --json it prints the events as they were recorded, one CloudEvent a line.
"""

import argparse
from typing import TYPE_CHECKING

from swarm.commands.arguments import add_optional_bus, chain_hash, position
from swarm.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bus.envelope import Envelope
    from bus.store import Store

SUMMARY = "read a run's event log"
EXAMPLES = """\
  swarm log last
  swarm log last --follow
  swarm log last --type 'Model*' --from 20 --to 60
  swarm log last --check-chain
  swarm log last --json | jq -r '.type' | sort | uniq -c
  swarm log last --follow --bus mqtt://127.0.0.1
"""
_POLL_S = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what only this command takes."""
    parser.add_argument("run", metavar="RUN", help="a run's id, a unique beginning of it, or `last`")
    parser.add_argument("--follow", action="store_true", help="go on until the run ends or is paused")
    parser.add_argument("--type", metavar="GLOB", help="only events whose name matches, such as 'Tool*'")
    parser.add_argument("--from", dest="start", metavar="N", type=position, default=1, help="from event N on")
    parser.add_argument("--to", dest="end", metavar="N", type=position, help="up to event N")
    parser.add_argument("--check-chain", action="store_true", help="recompute the hashes that chain the events")
    parser.add_argument(
        "--head", metavar="HASH", type=chain_hash, help="with --check-chain: a hash of this run that you kept elsewhere"
    )
    add_optional_bus(parser)
    parser.add_argument("--json", action="store_true", help="print one CloudEvent a line")


def run(args: argparse.Namespace) -> int:
    """Carry the command out."""
    import asyncio  # noqa: PLC0415 - loads only where it is used

    if args.head is not None and not args.check_chain:
        raise UsageError("--head is for --check-chain: it says which hash the chain must hold.")
    if args.end is not None and args.end < args.start:
        raise UsageError(f"--to {args.end} is before --from {args.start}.")
    if args.bus:
        from swarm.commands.remote import log  # noqa: PLC0415 - loads what speaks with hubs

        return asyncio.run(log(args))
    return asyncio.run(_log(args))


async def _log(args: argparse.Namespace) -> int:
    import os  # noqa: PLC0415 - loads only where it is used
    import sys  # noqa: PLC0415 - likewise
    from fnmatch import fnmatchcase  # noqa: PLC0415 - likewise

    from bus.codec import encode  # noqa: PLC0415 - likewise
    from swarm.core.state import RunState  # noqa: PLC0415 - likewise
    from swarm.runs import finding  # noqa: PLC0415 - likewise
    from swarm.runs.folding import fold  # noqa: PLC0415 - likewise
    from swarm.settings import read_settings  # noqa: PLC0415 - likewise
    from swarm.views.terminal import has_colour, say, say_json  # noqa: PLC0415 - likewise
    from swarm.views.timeline import Timeline  # noqa: PLC0415 - likewise

    async with finding.reading(read_settings(os.environ)) as store:
        info = await finding.find(store, args.run)
        if args.check_chain:
            return await _check_chain(store, info.run, head=args.head, as_json=args.json)
        before = RunState(info.run) if args.json else await fold(store.log, info.run, end=args.start - 1)
        timeline, colour = Timeline.after(before), has_colour(sys.stdout)
        async for envelope in _envelopes(store, info.run, args, args.start if args.json else before.position + 1):
            told = None if args.json else timeline.tell(envelope)  # all of them: later lines refer to earlier events
            if envelope.sequence < args.start:
                continue  # it was not there yet when we began to follow
            if args.type and not fnmatchcase(type(envelope.event).__name__.lower(), args.type.lower()):
                continue
            if told is None:
                say_json(encode(envelope).decode())
            else:
                say(told.line(colour=colour))
            if args.follow:
                sys.stdout.flush()
    return 0


async def _envelopes(store: "Store", run: str, args: argparse.Namespace, at: int) -> "AsyncIterator[Envelope]":
    """Yield a run's events to the last that is wanted; with `--follow` also those that another process adds."""
    import asyncio  # noqa: PLC0415 - loads only where it is used

    from bus.events import GoalAccepted, GoalFailed, RunPaused  # noqa: PLC0415 - likewise

    over = False
    while True:
        async for envelope in store.log.read(run, at, args.end):
            at = envelope.sequence + 1
            over = isinstance(envelope.event, GoalAccepted | GoalFailed | RunPaused)
            yield envelope
        if not args.follow or over or (args.end is not None and at > args.end) or await _is_abandoned(store, run, at):
            return
        await asyncio.sleep(_POLL_S)


async def _is_abandoned(store: "Store", run: str, at: int) -> bool:
    """Tell whether nobody writes this run any more, and all that was written has been read."""
    from bus.errors import NotFound  # noqa: PLC0415 - loads only where it is used
    from swarm.runs.ownership import is_abandoned  # noqa: PLC0415 - likewise

    try:
        info = await store.log.info(run)
    except NotFound:
        return True
    return info.length < at and is_abandoned(info)


async def _check_chain(store: "Store", run: str, *, head: str | None, as_json: bool) -> int:
    """Return 0 if the chain holds, 1 if not."""
    import json  # noqa: PLC0415 - loads only where it is used

    from bus.errors import Damaged  # noqa: PLC0415 - likewise
    from swarm.views.terminal import say, shown  # noqa: PLC0415 - likewise

    try:
        length = await store.log.verify(run, head=head)
    except Damaged as error:
        say(json.dumps({"ok": False, "run": run, "reason": str(error)}) if as_json else f"{run}: {shown(str(error))}")
        return 1
    _, last = await store.log.head(run)
    found = {"ok": True, "run": run, "events": length, "head": last}
    say(json.dumps(found) if as_json else f"{run}: the chain of {length} events holds; its head is {last}")
    return 0
