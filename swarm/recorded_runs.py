"""Runs scenarios against one recording for a test: plays it, or makes it. `swarm/pytest_plugin.py` is the way in."""

import asyncio
import os
import shlex
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from swarm import launch
from swarm.errors import SwarmError
from swarm.preparation import preparing, recordings
from swarm.preparation.model_choice import RECORDED
from swarm.runs.outcome import Outcome
from swarm.scenario.model import Scenario
from swarm.settings import Settings, read_settings

if TYPE_CHECKING:
    from bus.envelope import Envelope

How = Literal["play", "all", "new"]
"""Play what is recorded; record all anew; record what is new."""


class NotRecorded(SwarmError):
    """A run asked what its recording does not know, or there is none. Says what to do."""


@dataclass(slots=True)
class Player:
    """The runs of one test. `folder`: the test's, where scenarios are found from; `place`: for state and outcomes."""

    folder: Path
    file: Path
    place: Path
    how: How
    test: str
    """What pytest calls the test, for the command that records it."""
    notes: Path
    """A folder of the session, for what its tests record into one file."""
    _runs: int = 0
    _so_far: list["Envelope"] = field(default_factory=list)
    """What the runs of the test so far asked, and what they were answered."""

    def run(
        self,
        scenario: str | Path | Mapping[str, object] | Scenario,
        *,
        inputs: Mapping[str, str] | None = None,
        model: str | None = None,
    ) -> Outcome:
        """Run a scenario to its end. Raises `NotRecorded`, and what `swarm.run` raises."""
        if self.how == "play" and not self.file.exists():
            raise NotRecorded(f"There is no recording {self.file}.\n{self._remedy}")
        self._runs += 1
        return run_alone(self._run(Scenario.of(scenario, folder=self.folder, inputs=inputs), model))

    async def _run(self, scenario: Scenario, model: str | None) -> Outcome:
        file = f"{RECORDED}:{self.file.absolute()}"
        live = [model] if model else []
        log: list[Envelope] = []
        match self.how:
            case "play":  # with an empty environment: there is no key to be had
                settings = Settings(home=self.place / "home")
                ready = await preparing.prepare(scenario, settings, models=[file])
            case "new":
                settings = self._settings(scenario)
                models = [f"{role}={file}" for role in scenario.roles]
                ready = await preparing.prepare(scenario, settings, models=[*models, *live], record_new=True)
            case "all":
                settings = self._settings(scenario)
                ready = await preparing.prepare(scenario, settings, models=live)
        ready = replace(ready, behind=tuple(self._so_far))  # a second run is not answered as the first was
        outcome = await launch.start(ready, settings, out=self.place / f"outcome-{self._runs}", on_event=log.append)
        self._so_far += recordings.kept(log)
        if outcome.outcome == "paused":
            remedy = f"\n{self._remedy}-new" if self.how == "play" else ""
            raise NotRecorded(f"The run is paused: {outcome.reason}{remedy}")
        if self.how == "all":
            recordings.write_beside(self.file, self._so_far, writer=self.test, notes=self.notes)
        return outcome

    def _settings(self, scenario: Scenario) -> Settings:
        return replace(read_settings(os.environ, scenario.folder), home=self.place / "home")

    @property
    def _remedy(self) -> str:
        return f"Record it with a live model:  pytest {shlex.quote(self.test)} --swarm-record"


def run_alone(main: Coroutine[Any, Any, Outcome]) -> Outcome:
    """Run a coroutine in a loop of its own, also where this thread runs one already, and leave that as it is."""

    def alone() -> Outcome:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:  # given one, it makes no loop the current
            return runner.run(main)

    if not _is_in_a_loop():
        return alone()
    with ThreadPoolExecutor(1, "swarm_run") as thread:  # an async test: its loop waits meanwhile
        return thread.submit(alone).result()


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
