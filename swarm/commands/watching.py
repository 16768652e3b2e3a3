"""A run carried on in the foreground to its end: watched, stoppable by Ctrl-C, its outcome told."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import NamedTuple

from bus.envelope import Envelope
from bus.store import open_store
from swarm.commands.failures import STOPPED
from swarm.commands.report import report
from swarm.core.state import RunState
from swarm.runs.finding import with_head
from swarm.runs.folding import fold
from swarm.runs.outcome import Outcome, outcome_of
from swarm.settings import Settings
from swarm.telemetry import set_up
from swarm.views.progress import view_for
from swarm.views.terminal import note


class Watch(NamedTuple):
    """What a run tells the one who watches it."""

    on_state: Callable[[RunState], None]
    on_event: Callable[[Envelope], None]
    announce: Callable[[str], None]


LEFT_S = 2.0
"""How long tasks that a command has left behind may take to end."""


def stoppable(main: Callable[[], Coroutine[None, None, int]], *, told: str = "") -> int:
    """Run an async command; Ctrl-C and SIGTERM cancel it once, a second one ends the process at once.

    A task that the command has left, and that goes on although it is cancelled, ends with the process: the event loop
    would wait for it for ever. `told`: what is said where it was stopped and has not told so itself.
    """

    async def guarded() -> int:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        stopping = False

        def stop() -> None:
            nonlocal stopping
            if stopping or task is None:
                if sys.stderr.isatty():
                    os.write(2, b"\x1b[?25h\n")  # the live view hides the cursor
                os._exit(STOPPED)
            stopping = True
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        try:
            return await main()
        except asyncio.CancelledError:
            if not stopping:
                raise
            if told:
                note(told)
            return STOPPED
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    return asyncio.run(_to_the_last(guarded()))


async def _to_the_last(main: Coroutine[None, None, int]) -> int:
    """Return the status of a command once all its tasks have ended; if one does not, exit."""
    status = await main
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left and (await asyncio.wait(left, timeout=LEFT_S))[1]:
        try:
            sys.stdout.flush()
        finally:
            os._exit(status)
    return status


async def watched(args: argparse.Namespace, settings: Settings, act: Callable[[Watch], Awaitable[Outcome]]) -> int:
    """Show a run while `act` carries it on, tell its outcome and return the exit status."""
    run = ""
    view = view_for(sys.stderr, quiet=args.quiet, terminal_only=args.json)

    def on_event(envelope: Envelope) -> None:
        nonlocal run
        run = envelope.correlation_id
        view.on_event(envelope)

    set_up(view.announce, level=settings.env.get("SWARM_LOG") or "warning", run=lambda: run)
    stopped = False
    try:
        async with view:
            outcome = await act(Watch(view.on_state, on_event, view.announce))
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if not run or task is None:
            raise
        task.uncancel()
        stopped = True
        outcome = await stored_outcome(settings, run)
    report(outcome, as_json=args.json)
    # A run that reached its end as it was being stopped has ended all the same.
    return STOPPED if stopped and outcome.outcome == "paused" else outcome.exit_status


async def stored_outcome(settings: Settings, run: str) -> Outcome:
    """Return the outcome of a run as its log tells it."""
    async with open_store(settings.place, read_only=True) as store:
        return await with_head(outcome_of(await fold(store.log, run)), store.log)
