"""State a goal; agents plan, use tools, write, check and finish on their own. `import swarm` is all one imports.

The names below load on first use:

    outcome = await swarm.run("brief.yaml", inputs={"company": "a brewery"})

api.py          the functions below
scenario/       the scenario file, checked as a whole · settings.py the environment
preparation/    what a run needs to begin, found and checked · runs/ runs that are there
launch.py       start a run, go on with one · fork.py another future of one · replay.py one gone through again
runtime.py      puts a run together
core/           the rules: state, apply, admit, decide, plan, limits, tree, request, marks
orchestrator.py edge of the core · orchestration/ what it stands on
worker.py       edge of one agent · working/ what it stands on · latest.py what is kept of many
hubs/           any number of runs, over a bus · submissions/ runs that are handed in there · attached/ agents that
                are brought to it · files/ how both get and bring a run's files
brokers/        what brokers are told, and what they do · diagnosis.py of `swarm doctor`
cli.py          the command line · commands/ one file each · views/ what people see · telemetry.py for operators
recorded_runs.py runs as tests · pytest_plugin.py of pytest
testing.py      for authors of roles and tools · simulation/ a whole swarm in one process, under one seed
errors.py       what can go wrong · raised.py what our layers raise, in its terms · version.py
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what type checkers and editors see; at run time a name is loaded when it is first used
    from agents.briefing import Finding
    from agents.check import Verdict
    from agents.context import Context, Reply
    from agents.errors import (
        AnswerUnusable,
        BadCriterion,
        CheckBroken,
        ModelFailed,
        StuckRepeating,
        ToolFailed,
        ToolRefused,
    )
    from agents.role import Role
    from agents.tool import ToolContext, tool
    from bus.envelope import Envelope
    from bus.event_log import EventLog
    from bus.events import (
        PlanProposed,
        PlanRequested,
        Redo,
        ResultSubmitted,
        ReviewGiven,
        ReviewRequested,
        SubtaskAssigned,
    )
    from bus.setup import Criterion, Subtask
    from swarm.api import open_log, resume, run
    from swarm.errors import SwarmError
    from swarm.runs.outcome import Outcome
    from swarm.scenario.model import Scenario

__all__ = [
    "AnswerUnusable",
    "BadCriterion",
    "CheckBroken",
    "Context",
    "Criterion",
    "Envelope",
    "EventLog",
    "Finding",
    "ModelFailed",
    "Outcome",
    "PlanProposed",
    "PlanRequested",
    "Redo",
    "Reply",
    "ResultSubmitted",
    "ReviewGiven",
    "ReviewRequested",
    "Role",
    "Scenario",
    "StuckRepeating",
    "Subtask",
    "SubtaskAssigned",
    "SwarmError",
    "ToolContext",
    "ToolFailed",
    "ToolRefused",
    "Verdict",
    "open_log",
    "resume",
    "run",
    "tool",
]

_PUBLIC = {
    "run": "swarm.api",
    "resume": "swarm.api",
    "open_log": "swarm.api",
    "Outcome": "swarm.runs.outcome",
    "Scenario": "swarm.scenario.model",
    "SwarmError": "swarm.errors",
    "Role": "agents.role",
    "Context": "agents.context",
    "tool": "agents.tool",
    "ToolContext": "agents.tool",
    "ToolFailed": "agents.errors",
    "ToolRefused": "agents.errors",
    "AnswerUnusable": "agents.errors",
    "StuckRepeating": "agents.errors",
    "ModelFailed": "agents.errors",
    "CheckBroken": "agents.errors",
    "BadCriterion": "agents.errors",
    "Finding": "agents.briefing",
    "Reply": "agents.context",
    "Verdict": "agents.check",
    "Envelope": "bus.envelope",
    "EventLog": "bus.event_log",
    "SubtaskAssigned": "bus.events",
    "ResultSubmitted": "bus.events",
    "PlanRequested": "bus.events",
    "PlanProposed": "bus.events",
    "ReviewRequested": "bus.events",
    "ReviewGiven": "bus.events",
    "Redo": "bus.events",
    "Subtask": "bus.setup",
    "Criterion": "bus.setup",
}


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'swarm' has no attribute {name!r}; it has {', '.join(sorted(_PUBLIC))}")


def __dir__() -> list[str]:
    return sorted(_PUBLIC)
