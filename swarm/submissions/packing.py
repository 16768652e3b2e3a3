"""A scenario packed where it lies, for a hub to unpack (`swarm/hubs/unpacking.py`); both check it by the same code."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from swarm.errors import Fault, ScenarioError, listed
from swarm.preparation import workspace
from swarm.scenario.draft import Surroundings, text_name
from swarm.scenario.may import outside_files
from swarm.scenario.model import Scenario
from swarm.submissions.refusals import refusing
from swarm.submissions.submission import Submission
from swarm.submissions.submission_bounds import faults_of

SUBMITTING = Surroundings(waits=True, elsewhere=True, refuse=refusing(None))
"""What a scenario is checked against where it is submitted: `Scenario.load(file, around=SUBMITTING)`."""


def pack(
    scenario: Scenario, *, run: str, client: str, home: Path, models: Sequence[str] = ()
) -> tuple[Submission, dict[str, Path]]:
    """Return a scenario as a submission, and where the contents of its files lie, by their hash.

    `home`: where state lives, which is never part of a workspace. Raises `ScenarioError` with each thing that no hub
    would take.
    """
    if outside := outside_files(scenario):  # by a link: the words were looked at as it was loaded
        message = f"{listed(map(str, outside))} lies outside of the scenario's folder, which is all that is sent"
        raise ScenarioError(
            [Fault("refused", message, str(scenario.file or "") or None, hint="Put the files beside the scenario.")]
        )
    files, places = workspace.look_through(scenario, home=home)
    submission = Submission(
        run=run,
        written={**scenario.written, "name": scenario.name},
        inputs=dict(scenario.inputs),
        models=tuple(models),
        files=files,
        texts={
            **{
                _text_name(role.prompt_file, scenario.folder): role.prompt or ""
                for role in scenario.roles.values()
                if role.prompt_file
            },
            **{_text_name(file, scenario.folder): text for file, text in scenario.schemas.items()},
        },
        client=client,
    )
    try:
        checked(submission, replace(SUBMITTING, texts=submission.texts, folder_here=False), scenario.folder)
    except ScenarioError as error:
        file = str(scenario.file) if scenario.file else None
        raise ScenarioError([replace(fault, file=fault.file or file) for fault in error.faults]) from error
    return submission, places


def checked(
    submission: Submission, around: Surroundings, folder: Path, *, most_subtasks: int | None = None
) -> Scenario:
    """Return the scenario. Raises `ScenarioError` with all that is wrong with the submission."""
    faults = faults_of(submission)
    plan = submission.written.get("plan")
    if most_subtasks is not None and isinstance(plan, list) and len(plan) > most_subtasks:
        message = f"{len(plan)} subtasks are more than this hub allows ({most_subtasks})"
        faults.append(Fault("plan", message, field="plan", hint="Plan fewer, or submit it in parts."))
    try:
        scenario = Scenario.from_dict(submission.written, folder=folder, inputs=submission.inputs, around=around)
    except ScenarioError as error:
        raise ScenarioError([*faults, *error.faults]) from error
    if faults:
        raise ScenarioError(faults)
    return scenario


def _text_name(file: Path, folder: Path) -> str:
    return text_name(str(file.relative_to(folder) if file.is_relative_to(folder) else file))
