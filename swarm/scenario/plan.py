"""A scenario's plan as a graph that can be worked, and its `accept` entries as checks that are understood."""

import graphlib
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from agents import checks
from agents.errors import BadCriterion
from swarm.core.plan import NOT_WORKERS, RESERVED
from swarm.errors import listed, nearest, quote
from swarm.scenario.draft import Draft
from swarm.scenario.file import SubtaskSection
from swarm.scenario.source import FieldPath
from swarm.scenario.validation import good_rest


def check_plan(draft: Draft, subtasks: Mapping[int, SubtaskSection], known: set[str]) -> None:
    """Note what keeps the plan from working: unknown roles and needs, equal ids, circles, too many."""
    first: dict[str, int] = {}
    written = draft.data.get("plan")
    plan = written if isinstance(written, list) else []
    ids = {str(one["id"]) for one in plan if isinstance(one, dict) and "id" in one}
    limits = good.limits if (good := good_rest(draft)) else None
    if limits and len(plan) > limits.subtasks:
        message = f"{len(plan)} subtasks are more than limits.subtasks allows ({limits.subtasks})"
        draft.fault("plan", ("plan",), message, "Raise limits.subtasks, or plan fewer.", at_key=True)
    for index, subtask in subtasks.items():
        path: FieldPath = ("plan", index)
        if (before := first.setdefault(subtask.id, index)) != index:
            message = f"the id {quote(subtask.id)} stands twice (also plan.{before})"
            draft.fault("plan", (*path, "id"), message, "Give each subtask an id of its own.")
        if RESERVED.fullmatch(subtask.id):
            draft.fault("plan", (*path, "id"), f"{quote(subtask.id)} is an id that a run gives itself")
        _check_role(draft, path, subtask.role, known)
        for position, need in enumerate(subtask.needs):
            if need not in ids:
                message = f"there is no subtask {quote(need)} (there are: {listed(ids)})"
                draft.fault("plan", (*path, "needs", position), message, nearest(need, ids))
    _check_cycle(draft, subtasks)


def _check_role(draft: Draft, path: FieldPath, role: str, known: set[str]) -> None:
    if role not in known:
        hint = nearest(role, known, otherwise="A role of your own is declared under `roles:`.")
        message = f"role {quote(role)} is unknown (known: {listed(known - NOT_WORKERS)})"
        draft.fault("unknown_name", (*path, "role"), message, hint)
    elif role in NOT_WORKERS:
        hint = f"Give it to one of {listed(known - NOT_WORKERS)}."
        draft.fault("plan", (*path, "role"), f"the {role} takes no subtasks", hint)


def _check_cycle(draft: Draft, subtasks: Mapping[int, SubtaskSection]) -> None:
    index = {subtask.id: position for position, subtask in subtasks.items()}
    graph = {subtask.id: [need for need in subtask.needs if need in index] for subtask in subtasks.values()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        cycle: list[str] = error.args[1][::-1]
        way = " needs ".join(quote(name) for name in cycle)
        draft.fault("plan", ("plan", index[cycle[0]], "needs"), f"these wait for each other: {way}", "Drop one need.")


def criteria_of(data: Mapping[str, JsonValue]) -> Iterator[tuple[FieldPath, dict[str, JsonValue]]]:
    """Yield the entries of `accept`, of the whole and of subtasks, with where they stand."""
    places: list[tuple[FieldPath, JsonValue]] = [(("accept",), data.get("accept"))]
    plan = data.get("plan")
    for index, subtask in enumerate(plan if isinstance(plan, list) else ()):
        places.append((("plan", index, "accept"), subtask.get("accept") if isinstance(subtask, dict) else None))
    for where, criteria in places:
        for index, criterion in enumerate(criteria if isinstance(criteria, list) else ()):
            if isinstance(criterion, dict):
                yield (*where, index), criterion


def check_criteria(draft: Draft) -> None:
    """Let `agents.checks` say which entries of `accept` it understands."""
    left = checks.MOST_EXPRESSIONS
    for where, criterion in criteria_of(draft.data):
        left -= checks.expressions(criterion)
        if left < 0:
            most = f"more than {checks.MOST_EXPRESSIONS} regular expressions in all"
            draft.fault("criterion", where, most, "Join some by |, or look for plain texts.")
            return
        try:
            checks.parse(criterion)
        except BadCriterion as bad:
            path = (*where, bad.field) if bad.field else where
            draft.fault("criterion", path, str(bad), at_key=bad.field not in criterion)
