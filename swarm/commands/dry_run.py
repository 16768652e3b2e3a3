"""What `run --dry-run` says: model, price, limits, what may be done, the plan. Nothing is started or imported."""

import json
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from bus.setup import Limits
from swarm.commands.choices import chosen_lines, price_lines
from swarm.commands.granted import said
from swarm.preparation.model_choice import Choice
from swarm.runs.outcome import PICO
from swarm.scenario.may import may
from swarm.scenario.model import Scenario
from swarm.settings import Settings
from swarm.views.terminal import one_line, say, say_json
from swarm.views.wording import clock, dollars

_LONG = 200


def dry_run(scenario: Scenario, choices: Mapping[str, Choice], settings: Settings, *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        say_json(json.dumps(_object(scenario, choices), ensure_ascii=False))
        return
    for line in _lines(scenario, choices, settings):
        say(line)


def _lines(scenario: Scenario, choices: Mapping[str, Choice], settings: Settings) -> Iterator[str]:
    yield f"{scenario.name}: {one_line(scenario.goal, _LONG)}"
    yield from chosen_lines(choices)
    yield from price_lines(scenario, choices, settings)
    yield f"limits: {_limits(scenario.limits)}"
    yield "it may:"
    yield from (f"  {line}" for line in said(may(scenario)))
    if scenario.plan:
        yield "plan:"
    for subtask in scenario.plan or ():
        after = f", after {', '.join(subtask.needs)}" if subtask.needs else ""
        yield f"  {subtask.id} ({subtask.role}{after}): {one_line(subtask.instruction, _LONG)}"
    yield "Nothing was started (--dry-run)."


def _limits(limits: Limits) -> str:
    money = "no limit of money" if limits.money is None else dollars(limits.money / PICO)
    return (
        f"{clock(limits.time_ms)[:-2]} of time, {limits.tokens:,} tokens, {money}, {limits.rounds} rounds, "
        f"{limits.attempts} attempts, {limits.subtasks} subtasks, {limits.parallel} in parallel"
    )


def _object(scenario: Scenario, choices: Mapping[str, Choice]) -> dict[str, JsonValue]:
    return {
        "ok": True,
        "scenario": scenario.name,
        "models": {role: {"model": choice.model, "why": choice.why} for role, choice in choices.items()},
        "limits": scenario.limits.model_dump(mode="json"),
        "plan": [one.model_dump(mode="json") for one in scenario.plan] if scenario.plan else None,
        "may": may(scenario),
    }
