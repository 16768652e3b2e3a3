"""What commands do with a run that is with a hub: `--bus URL`."""

import argparse
import sys
from fnmatch import fnmatchcase
from pathlib import Path

from bus.codec import encode
from swarm.commands.following import followed
from swarm.commands.report import report
from swarm.core.apply import apply
from swarm.core.state import RunState
from swarm.errors import UsageError
from swarm.runs import handover
from swarm.runs.outcome import outcome_of
from swarm.submissions.client import client_on, state_of
from swarm.views.terminal import has_colour, note, say, say_json
from swarm.views.timeline import Timeline


async def show(args: argparse.Namespace, folder: Path | None) -> int:
    """Show one run of a hub."""
    async with client_on(args.bus, announce=note) as client:
        run = await client.find(args.run)
        state = await state_of(client, run, args.at)
        if args.at is not None and state.position < args.at:
            raise UsageError(f"{run} has {state.position} events; there is no event {args.at}.")
        outcome = outcome_of(state)
        if folder is not None:
            if state.ended is None:
                raise UsageError("--files: a hub gives the files of a run once it has ended.")
            wanted = tuple(state.tree.values())
            store = await client.fetch(run, wanted)
            made = await handover.hand_over(run, wanted, store, folder, bus=args.bus)
            outcome = outcome.model_copy(update={"files": wanted, "folder": str(made) if made else None})
    report(outcome, as_json=args.json, bus=args.bus)
    return 0


async def log(args: argparse.Namespace) -> int:
    """Print the event log of a run of a hub."""
    if args.check_chain:
        raise UsageError("--check-chain: the chain is checked where the log is, by the owner of the hub.")
    async with client_on(args.bus, announce=note) as client:
        run = await client.find(args.run)
        timeline, colour = Timeline.after(RunState(run)), has_colour(sys.stdout)
        events = client.follow(run) if args.follow else client.lines(run, 1, args.end)
        async for envelope in events:
            told = timeline.tell(envelope)
            if args.end is not None and envelope.sequence > args.end:
                break
            if envelope.sequence < args.start:
                continue
            if args.type and not fnmatchcase(type(envelope.event).__name__.lower(), args.type.lower()):
                continue
            if args.json:
                say_json(encode(envelope).decode())
            else:
                say(told.line(colour=colour))
            if args.follow:
                sys.stdout.flush()
    return 0


async def resume(args: argparse.Namespace, changes: dict[str, object]) -> int:
    """Go on with a run of a hub, and follow it to its end."""
    async with client_on(args.bus, announce=note) as client:
        run = await client.find(args.run)
        state = await state_of(client, run)
        told = {"in_doubt": args.in_doubt} if args.in_doubt else {}
        await client.call("resume", hub=client.hub_of(run), run=run, limits=changes, **told)
        return await followed(args, client, run, Path.cwd() / run, after=state)


async def tell(args: argparse.Namespace, kind: str) -> int:
    """Have a run that is under way paused or cancelled."""
    async with client_on(args.bus, announce=note) as client:
        run = await client.find(args.run)
        await client.call(kind, run=run)
        state = RunState(run)
        async for envelope in client.follow(run):
            apply(state, envelope)
    if args.json:
        report(outcome_of(state), as_json=True)
    else:
        say(f"{state.status}  {run}")
    return 0
