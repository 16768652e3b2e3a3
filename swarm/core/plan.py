"""A plan as a graph: which plans cannot work, and why; what depends on what."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType

from agents.checks import MOST_EXPRESSIONS, RUNS_COMMANDS, expressions, parse
from agents.errors import BadCriterion
from bus.setup import Criterion, RoleSetup, Setup, Subtask

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
RESERVED = re.compile(r"plan|outcome|(plan|review)-.*")
"""Ids that requests of the run itself bear."""

NOT_WORKERS = frozenset({"planner", "critic"})


def faults(
    subtasks: Sequence[Subtask],
    setup: Setup,
    *,
    assigned: Iterable[str] = (),
    brought: Mapping[str, RoleSetup] = MappingProxyType({}),
) -> list[str]:
    """Return why a plan cannot work, each reason in words a planner can act on; empty where it can.

    `assigned` are the ids of subtasks ever assigned in the run: they count against `limits.subtasks`. `brought` are
    roles that agents brought beside the scenario's own.
    """
    if not subtasks:
        return ["the plan has no subtasks; give at least one"]
    if sum(expressions(entry) for subtask in subtasks for entry in subtask.accept) > MOST_EXPRESSIONS:
        return [f"more than {MOST_EXPRESSIONS} regular expressions in all; join some by |, or look for plain texts"]
    found: list[str] = []
    ids = [subtask.id for subtask in subtasks]
    counts = Counter(ids)
    found += [f"the id {name!r} is used {times} times; ids are unique" for name, times in counts.items() if times > 1]
    known, roles = set(ids), {**brought, **setup.roles}
    workers = sorted(set(roles) - NOT_WORKERS)
    written = {str(entry["run"]) for subtask in setup.plan or () for entry in subtask.accept if "run" in entry}
    for subtask in subtasks:
        found += _faults_of(subtask, known, workers)
        role = roles.get(subtask.role)
        runs = role is None or not RUNS_COMMANDS.isdisjoint(role.tools)
        for entry in subtask.accept:
            found += _faults_of_check(subtask.id, entry, written, runs=runs)
    total = len(known | set(assigned))
    if total > setup.limits.subtasks:
        found.append(f"{total} subtasks in all, but the limit is {setup.limits.subtasks}; plan fewer, larger ones")
    if not found and (cycle := find_cycle(subtasks)):
        found.append(f"the needs go in a circle: {' -> '.join(cycle)}")
    return found


def find_cycle(subtasks: Iterable[Subtask]) -> list[str]:
    """Return the ids of one circle of needs, first and last the same; empty where there is none."""
    try:
        TopologicalSorter({subtask.id: subtask.needs for subtask in subtasks}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def dependents(subtasks: Mapping[str, Subtask]) -> dict[str, list[str]]:
    """Return for each id the ids of those that need it."""
    found: dict[str, list[str]] = {name: [] for name in subtasks}
    for subtask in subtasks.values():
        for need in subtask.needs:
            found[need].append(subtask.id)
    return found


def closure(start: Iterable[str], edges: Mapping[str, Sequence[str]]) -> set[str]:
    """Return all that can be reached over the edges, `start` included."""
    reached: set[str] = set()
    todo = list(start)
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += edges.get(name, ())
    return reached


def _faults_of(subtask: Subtask, known: set[str], workers: Sequence[str]) -> list[str]:
    found: list[str] = []
    if not ID.fullmatch(subtask.id) or RESERVED.fullmatch(subtask.id):
        found.append(
            f"the id {subtask.id[:80]!r} cannot be used; take a short name of letters, digits, - and _ "
            "that is not 'plan', 'outcome' and does not begin with 'plan-' or 'review-'"
        )
    if subtask.role not in workers:
        found.append(f"{subtask.id!r}: role {subtask.role[:80]!r} cannot be given work (known: {', '.join(workers)})")
    if not subtask.instruction.strip():
        found.append(f"{subtask.id!r}: the instruction is empty")
    found += [f"{subtask.id!r} needs {need!r}, which is not in the plan" for need in subtask.needs if need not in known]
    if subtask.id in subtask.needs:
        found.append(f"{subtask.id!r} needs itself")
    return found


def _faults_of_check(subtask: str, criterion: Criterion, written: Collection[str], *, runs: bool) -> list[str]:
    """Return what is wrong with a criterion. `written`: the commands of the scenario's own plan, which may be any.

    `runs`: whether the subtask's role may run commands, and so may be checked by one that a planner made up.
    """
    try:
        parse(criterion)
    except BadCriterion as error:
        return [f"{subtask!r}: accept: {error}"]
    if "run" in criterion and not runs and criterion["run"] not in written:
        return [f"{subtask!r}: accept: `run` is only for roles that may run commands"]
    return []
