"""State a goal; agents plan, use tools, write, check and finish on their own. `import swarm` is all one imports.

The names below load on first use:

    outcome = await swarm.run("brief.yaml", inputs={"company": "a brewery"})

scenario.py    the scenario file, checked as a whole (scenario_*.py its parts) · settings.py · model_choice.py
launch.py      start a run, go on with one · parts.py what its roles work with · runtime.py puts it together
core/          the rules: state, apply, admit, decide, plan, limits, tree, request
orchestrator.py edge of the core · worker.py edge of one role
outcome.py     what a run came to · handover.py its files · workspace.py the files it begins with
cli.py         the command line · commands/ one file each
"""

import importlib

_PUBLIC = {
    "run": "swarm.api",
    "resume": "swarm.api",
    "open_log": "swarm.api",
    "Outcome": "swarm.outcome",
    "Scenario": "swarm.scenario.model",
    "SwarmError": "swarm.errors",
    "Role": "agents.role",
    "Context": "agents.context",
    "tool": "agents.tool",
    "ToolContext": "agents.tool",
    "ToolFailed": "agents.errors",
    "SubtaskAssigned": "bus.events",
    "ResultSubmitted": "bus.events",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'swarm' has no attribute {name!r}; it has {', '.join(sorted(_PUBLIC))}")


def __dir__() -> list[str]:
    return sorted(_PUBLIC)
