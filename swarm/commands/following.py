"""A submitted run from its submitter's side: files sent, the run followed, its outcome taken."""

import argparse
import asyncio
import hashlib
import shlex
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from bus.errors import BusError
from swarm.commands.report import report
from swarm.core.apply import apply
from swarm.core.state import RunState
from swarm.errors import MissingPart, UsageError
from swarm.runs import handover
from swarm.runs.outcome import outcome_of
from swarm.submissions.client import Client
from swarm.views.progress import view_for
from swarm.views.terminal import note


def sender(client: Client, places: Mapping[str, Path]) -> Callable[[str, str, str], Awaitable[None]]:
    """Return what sends one file of a submission to a hub, by its hash.

    It raises `UsageError` where the file is not what it was as the scenario was packed.
    """

    async def send(hub: str, run: str, sha256: str) -> None:
        data = await asyncio.to_thread(_read, places[sha256], sha256)
        await client.files(hub, run).put(data)

    return send


def _read(path: Path, sha256: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read any more ({error.strerror}); submit again.") from error
    if hashlib.sha256(data).hexdigest() != sha256:  # the hub would ask for what was packed for ever
        raise UsageError(f"{path} changed while it was submitted; submit again.")
    return data


async def followed(
    args: argparse.Namespace, client: Client, run: str, out: Path, *, after: RunState | None = None
) -> int:
    """Show a run until it has ended or is paused, take its files, tell its outcome and return the exit status.

    `after`: as it stands, where it is followed from there.

    Stopped by a person, it only stops following: the run goes on at its hub.
    """
    state = after or RunState(run)
    view = view_for(sys.stderr, quiet=args.quiet, terminal_only=args.json)
    try:
        view.on_state(state)
        async with view:
            async for envelope in client.follow(run, state.position + 1):
                apply(state, envelope)
                view.on_event(envelope)
    except asyncio.CancelledError:
        note(f"follows {run} no longer; it goes on. `swarm show {run} --bus {shlex.quote(args.bus)}` shows it.")
        raise
    folder, not_written = None, ""
    if state.ended is not None and state.ended.files:
        try:
            store = await client.fetch(run, state.ended.files)
        except (MissingPart, BusError) as error:  # no outcome is lost by that
            not_written = (
                f"the files did not come: {error} They are with the hub: "
                f"`swarm show {run} --files FOLDER --bus {shlex.quote(args.bus)}` fetches them."
            )
        else:
            folder, not_written = await handover.try_to_hand_over(run, state.ended.files, store, out, bus=args.bus)
    outcome = outcome_of(state, folder=str(folder) if folder else None, not_written=not_written)
    report(outcome, as_json=args.json, bus=args.bus)
    return outcome.exit_status
