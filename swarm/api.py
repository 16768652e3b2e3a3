"""The Python face: `swarm.run`, `swarm.resume`, `swarm.open_log`."""

import dataclasses
import inspect
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from agents.errors import AgentsError
from bus.envelope import Envelope
from bus.errors import BusError
from bus.event_log import EventLog
from swarm import launch
from swarm.errors import SwarmError, UsageError
from swarm.preparation import preparing
from swarm.raised import as_ours
from swarm.runs import finding
from swarm.runs.outcome import Outcome
from swarm.scenario.draft import Surroundings
from swarm.scenario.model import Scenario
from swarm.settings import Settings, read_settings

OnEvent = Callable[[Envelope], None]

log = logging.getLogger("swarm")


async def run(
    scenario: str | Path | Mapping[str, object] | Scenario,
    *,
    inputs: Mapping[str, str] | None = None,
    model: str | None = None,
    home: str | Path | None = None,
    out: str | Path | None = None,
    bus: str | None = None,
    on_event: OnEvent | None = None,
) -> Outcome:
    """Run a scenario (a path, a dict of a file's keys, or a `Scenario`) and return what it came to.

    `model`: `provider:name` for every role. `home`: where state lives, by default `$SWARM_HOME` or `./.swarm`.
    `out`: the folder for the outcome's files. `bus`: the URL of a broker, whose agents work on it. `on_event` is
    called with each `Envelope` once it is recorded. Cancelling pauses the run; `resume` goes on with it. So does what
    `on_event` raises, which is raised here as it is. Raises `SwarmError` before the run begins, and where it can be
    recorded no further; else what happened is in the outcome. Touches no signal handlers, no logging, no working
    directory, no environment.
    """
    with _in_our_terms(on_event) as told:
        scenario = Scenario.of(scenario, inputs=inputs, around=Surroundings(waits=bus is not None))
        settings = _settings(home, scenario.folder)
        models = [model] if model else []
        ready = await preparing.prepare(scenario, settings, models=models, elsewhere=preparing.elsewhere(scenario))
        return await launch.start(ready, settings, out=Path(out) if out else None, bus=bus, on_event=told)


async def resume(
    run: str = "last",
    *,
    limits: Mapping[str, object] | None = None,
    in_doubt: Literal["retry", "skip", "fail"] | None = None,
    home: str | Path | None = None,
    on_event: OnEvent | None = None,
) -> Outcome:
    """Go on with a run. `limits`: ones to raise, such as `{"tokens": "400k"}`.

    `in_doubt`: what becomes of outward calls that were begun and whose outcome nobody knows; None pauses the run again.
    Where code, prompts or workspace are not what they were when it began, a warning is logged. Raises as `run` does.
    """
    from swarm.scenario.model import change_limits  # noqa: PLC0415 - most programs never resume

    with _in_our_terms(on_event) as told:
        changes = change_limits([f"limits.{name}={value}" for name, value in (limits or {}).items()])
        begun = await launch.begun(run, partial(_settings, home))
        for name in begun.differs:
            log.warning("%s is not what it was when the run began", name)
        return await launch.resume(
            begun.run, begun.settings, changes=dict(changes), in_doubt=lambda _: in_doubt, on_event=told
        )


@asynccontextmanager
async def open_log(home: str | Path | None = None) -> AsyncIterator[EventLog]:
    """Open the event log for reading: `async for envelope in log.read(run)`. Raises `SwarmError`."""
    try:
        async with finding.reading(_settings(home, None)) as store:
            yield store.log
    except (AgentsError, BusError) as error:  # not what else is raised within: it is the caller's own
        ours = as_ours(error)
        if ours is None:
            raise
        raise ours from error


def _settings(home: str | Path | None, folder: Path | None) -> Settings:
    settings = read_settings(os.environ, folder)
    if home is not None:
        settings = dataclasses.replace(settings, home=Path(home), store=None)
    return dataclasses.replace(settings, home=settings.home.absolute())  # the program may go to another folder


@contextmanager
def _in_our_terms(on_event: OnEvent | None) -> Iterator[OnEvent | None]:
    """Raise as a `SwarmError` what is raised on purpose within, but as it is what `on_event` raises.

    Yields what is to be called in the place of `on_event`.
    """
    if inspect.iscoroutinefunction(on_event):
        raise UsageError(
            "on_event: nobody would await an async function. Give a plain one, such as a queue's put_nowait."
        )
    its_own: list[Exception] = []

    def told(envelope: Envelope) -> None:
        try:
            if on_event is not None:
                on_event(envelope)
        except Exception as error:
            its_own.append(error)
            raise

    try:
        yield told
    except SwarmError:
        raise
    except Exception as error:
        ours = None if error in its_own else as_ours(error)
        if ours is None:
            raise
        raise ours from error
