"""Recorded and simulated runs as tests: a pytest plugin with the fixtures `swarm_run` and `swarm_simulation`.

    def test_the_brief_names_the_cheapest_oven(swarm_run):
        outcome = swarm_run("../brief.yaml", inputs={"company": "a mill"})
        assert outcome.outcome == "accepted"

`pytest --swarm-record` runs it with a live model and writes down what that said; from then on the test needs no model,
key or network.

    def test_the_brief_survives_whatever_fails(swarm_simulation):
        swarm_simulation.storm("../brief.yaml", script=[{"role": "writer", "reply": "All is well."}], runs=200)

runs it in one process with hubs, agents, a broker and a disk that fail as the seed wants. pytest loads this module in
every session of everyone who has us installed, so it imports nothing but pytest: what runs agents is in
`swarm/recorded_runs.py` and `swarm/simulation/`, loaded by the first test that runs a scenario.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pytest

if TYPE_CHECKING:
    from swarm.runs.outcome import Outcome
    from swarm.scenario.model import Scenario
    from swarm.simulation.faults import Faults
    from swarm.simulation.own import Says
    from swarm.simulation.simulate import Simulated

MARKER = "swarm_recording"


class SwarmRun(Protocol):
    """What the fixture gives: runs a scenario to its end and returns its outcome."""

    def __call__(
        self,
        scenario: "str | Path | Mapping[str, object] | Scenario",
        *,
        inputs: Mapping[str, str] | None = None,
        model: str | None = None,
    ) -> "Outcome":
        """Run it. `scenario`: a file, found from the test's folder, or what `swarm.run` takes besides.

        `model`: the live one to record with, where it is not the scenario's or the environment's.
        """
        ...


class SwarmSimulation(Protocol):
    """What the fixture gives: runs a scenario in a simulated world, once or in a storm of seeds.

    `script`: the model's answers as in a `scripted:` file, of which none is used up; or `says(role, messages)`, which
    returns a text or such an entry. `faults`: left out, the seed draws them; `hubs`, `agents`: how many there are.
    """

    def __call__(
        self,
        scenario: "str | Path | Mapping[str, object] | Scenario",
        *,
        script: "Sequence[Mapping[str, Any]]" = (),
        says: "Says | None" = None,
        seed: int = 0,
        faults: "Faults | None" = None,
        inputs: Mapping[str, str] | None = None,
        hubs: int = 2,
        agents: int = 3,
    ) -> "Simulated":
        """Run it once; the test fails if a promise does not hold, with what befell the run, and its seed."""
        ...

    def storm(
        self,
        scenario: "str | Path | Mapping[str, object] | Scenario",
        *,
        runs: int = 200,
        script: "Sequence[Mapping[str, Any]]" = (),
        says: "Says | None" = None,
        first: int = 0,
        faults: "Faults | None" = None,
        inputs: Mapping[str, str] | None = None,
        hubs: int = 2,
        agents: int = 3,
    ) -> "Sequence[Simulated]":
        """Run it under the seeds from `first` on; the test fails at the first that breaks a promise."""
        ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that record."""
    group = parser.getgroup("swarm", "recorded runs of scenarios")
    group.addoption(
        "--swarm-record",
        action="store_true",
        help="run scenarios with a live model, and write down anew what it said",
    )
    group.addoption(
        "--swarm-record-new",
        action="store_true",
        help="ask a live model only what is not recorded, and add that to the recording",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        f"{MARKER}(file): where `swarm_run` keeps its recording, from the test's folder; "
        "by default recordings/MODULE/TEST.jsonl",
    )


@pytest.fixture
def swarm_run(request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> SwarmRun:
    """Run scenarios as they were recorded; with `--swarm-record` live, and record them.

    Several runs of one test share its recording, as do tests that name the same one. State and outcomes lie in the
    test's `tmp_path`. A test whose run asks what was not recorded fails with what is nearest, and how it differs.
    """
    from swarm.recorded_runs import Player  # noqa: PLC0415 - loads what runs agents

    option = request.config.getoption
    how: Literal["play", "all", "new"] = "play"
    if option("--swarm-record") or option("--swarm-record-new"):
        how = "all" if option("--swarm-record") else "new"
    session = tmp_path_factory.getbasetemp()
    if hasattr(request.config, "workerinput"):  # pytest-xdist gives each of its processes a folder in the session's
        session = session.parent
    notes = session / "swarm-recordings"
    player = Player(request.path.parent, _file(request), tmp_path / "swarm", how, request.node.nodeid, notes)

    def run(
        scenario: "str | Path | Mapping[str, object] | Scenario",
        *,
        inputs: Mapping[str, str] | None = None,
        model: str | None = None,
    ) -> "Outcome":
        from swarm.recorded_runs import NotRecorded  # noqa: PLC0415 - likewise

        try:
            return player.run(scenario, inputs=inputs, model=model)
        except NotRecorded as error:
            missing = str(error)
        pytest.fail(missing, pytrace=False)

    return run


@pytest.fixture
def swarm_simulation(request: pytest.FixtureRequest) -> SwarmSimulation:
    """Run scenarios in a simulated world, under faults that a seed draws; scenarios are found from the test's folder.

    Whatever strikes, a run has to end, and to keep what is promised: nothing happens that is not in the log, nothing is
    paid twice, nothing outward is repeated, limits hold, a replay does the same.
    """
    from swarm.simulation.own import Simulator  # noqa: PLC0415 - loads what runs agents

    simulator = Simulator(request.path.parent)

    def judged(found: "Sequence[Simulated]") -> "Sequence[Simulated]":
        if found[-1].broken:
            pytest.fail(found[-1].told(), pytrace=False)
        return found

    class Simulation:
        def __call__(self, *args: Any, seed: int = 0, **kwargs: Any) -> "Simulated":  # noqa: ANN401 - `Simulator.storm` has them
            return judged(simulator.storm(*args, runs=1, first=seed, **kwargs))[0]

        def storm(self, *args: Any, **kwargs: Any) -> "Sequence[Simulated]":  # noqa: ANN401 - likewise
            return judged(simulator.storm(*args, **kwargs))

    return Simulation()


def _file(request: pytest.FixtureRequest) -> Path:
    """Return where a test's recording is, marked or by its name."""
    folder = request.path.parent
    marker = request.node.get_closest_marker(MARKER)
    if marker is None:
        classes = [node.name for node in request.node.listchain() if isinstance(node, pytest.Class)]
        name = ".".join([*classes, request.node.name])
        kept = "".join(char if char.isalnum() or char in "-_.[]" else "-" for char in name)
        return folder / "recordings" / request.path.stem / f"{kept[:200]}.jsonl"
    if len(marker.args) != 1 or not isinstance(marker.args[0], str | Path) or marker.kwargs:
        raise pytest.UsageError(f'{request.node.nodeid}: write @pytest.mark.{MARKER}("recordings/NAME.jsonl").')
    return folder / marker.args[0]
