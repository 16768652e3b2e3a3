"""The Python face: `swarm.run`, `swarm.resume`, `swarm.open_log`."""

import dataclasses
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from bus.envelope import Envelope
from bus.event_log import EventLog
from swarm import finding, launch, preparing
from swarm.outcome import Outcome
from swarm.scenario.model import Scenario
from swarm.settings import Settings, read_settings

OnEvent = Callable[[Envelope], None]


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
    called with each `Envelope` once it is recorded. Cancelling pauses the run; `resume` goes on with it. Raises
    `SwarmError` before the run begins; afterwards what happened is in the outcome. Touches no signal handlers, no
    logging, no working directory, no environment.
    """
    if isinstance(scenario, Mapping):
        scenario = Scenario.from_dict(scenario, inputs=inputs)
    elif not isinstance(scenario, Scenario):
        scenario = Scenario.load(scenario, inputs=inputs)
    settings = _settings(home, scenario.folder)
    ready = await preparing.prepare(scenario, settings, models=[model] if model else [])
    return await launch.start(ready, settings, out=Path(out) if out else None, bus=bus, on_event=on_event)


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
    Raises `SwarmError`.
    """
    from swarm.scenario.model import change_limits  # noqa: PLC0415 - most programs never resume

    changes = change_limits([f"limits.{name}={value}" for name, value in (limits or {}).items()])
    return await launch.resume(
        run, _settings(home, None), changes=dict(changes), in_doubt=lambda _: in_doubt, on_event=on_event
    )


@asynccontextmanager
async def open_log(home: str | Path | None = None) -> AsyncIterator[EventLog]:
    """Open the event log for reading: `async for envelope in log.read(run)`. Raises `SwarmError`."""
    async with finding.reading(_settings(home, None)) as store:
        yield store.log


def _settings(home: str | Path | None, folder: Path | None) -> Settings:
    settings = read_settings(os.environ, folder)
    return settings if home is None else dataclasses.replace(settings, home=Path(home), store=None)
