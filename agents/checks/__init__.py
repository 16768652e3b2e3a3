"""Checks by their key in `accept`."""

import pkgutil

from agents.check import Check
from agents.checking.criteria import nearest
from agents.errors import BadCriterion
from bus.setup import Criterion

CHECKS = {
    "file": "agents.checks.file:FileCheck",
    "text": "agents.checks.text:TextCheck",
    "json": "agents.checks.json:JsonCheck",
    "run": "agents.checks.run:RunCheck",
    "ask": "agents.checks.ask:AskCheck",
}
RUNS_COMMANDS = frozenset({"run_python", "run_command"})
"""Tools of which a role has one whose subtasks a planner may have checked by `run`."""


MOST_EXPRESSIONS = 200
"""Regular expressions in one scenario or plan: each is compiled to be checked."""


def expressions(criterion: Criterion) -> int:
    """Return how many regular expressions a criterion has."""
    texts = [one for value in criterion.values() for one in (value if isinstance(value, list) else [value])]
    return sum(isinstance(one, str) and one.startswith("re:") for one in texts)


def parse(criterion: Criterion) -> Check:
    """Return the check that a criterion means: exactly one of its keys, in any order, names it.

    Raises `BadCriterion` with the field at fault.
    """
    kinds = [key for key in criterion if key in CHECKS]
    if len(kinds) > 1:
        raise BadCriterion(f"{kinds[0]!r} and {kinds[1]!r} are two checks: make them two entries.", kinds[1])
    if not kinds:
        first = next(iter(criterion), None)
        if first is None:
            raise BadCriterion(f"An entry of 'accept' should name a check: {', '.join(CHECKS)}.")
        raise BadCriterion(f"There is no check {first!r}. {nearest(first, list(CHECKS))}", first)
    check: type[Check] = pkgutil.resolve_name(CHECKS[kinds[0]])
    return check(criterion)
