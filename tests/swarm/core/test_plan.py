"""Which plans can work, and why the others cannot."""

import itertools
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.setup import Limits, RoleSetup, Setup, Subtask
from swarm.core import plan
from tests.support.simulation import setup_of

SETUP = setup_of(limits=Limits(subtasks=5))


def subtask(name: str, *needs: str, role: str = "coder", **more: object) -> Subtask:
    return Subtask.model_validate({"id": name, "role": role, "instruction": "do it", "needs": needs, **more})


GRAPHS = st.dictionaries(
    st.sampled_from("abcde"), st.sets(st.sampled_from("abcde"), max_size=3), min_size=1, max_size=5
).map(lambda found: [subtask(name, *sorted(needs & found.keys() - {name})) for name, needs in found.items()])


@given(GRAPHS)
def test_a_plan_works_just_when_its_needs_have_an_order(subtasks: list[Subtask]) -> None:
    done: set[str] = set()
    while ready := [one for one in subtasks if one.id not in done and done.issuperset(one.needs)]:
        done.update(one.id for one in ready)
    found = plan.faults(subtasks, SETUP)
    assert (not found) == (len(done) == len(subtasks))
    for fault in found:
        circle = re.fullmatch(r"the needs go in a circle: (.*)", fault)
        assert circle is not None
        steps = circle[1].split(" -> ")
        needs = {one.id: one.needs for one in subtasks}
        assert steps[0] == steps[-1]
        pairs = list(itertools.pairwise(steps))
        assert all(a in needs[b] for a, b in pairs) or all(b in needs[a] for a, b in pairs)


@pytest.mark.parametrize(
    ("subtasks", "says"),
    [
        ([], "the plan has no subtasks"),
        ([subtask("a"), subtask("a")], "the id 'a' is used 2 times"),
        ([subtask("plan")], "the id 'plan' cannot be used"),
        ([subtask("outcome")], "cannot be used"),
        ([subtask("plan-7")], "cannot be used"),
        ([subtask("review-a-1")], "cannot be used"),
        ([subtask("a/b")], "cannot be used"),
        ([subtask("-a")], "cannot be used"),
        ([subtask("a" * 65)], "cannot be used"),
        ([subtask("a\n")], "cannot be used"),
        ([subtask("a", role="planner")], "role 'planner' cannot be given work (known: coder, researcher)"),
        ([subtask("a", role="critic")], "cannot be given work"),
        ([subtask("a", role="astronaut")], "role 'astronaut' cannot be given work"),
        ([subtask("a", instruction=" \n")], "the instruction is empty"),
        (
            [subtask("a", accept=[{"text": "a", "lacks": ["re:b"] * 101}] * 2)],
            "more than 200 regular expressions in all",
        ),
        ([subtask("a", "z")], "needs 'z', which is not in the plan"),
        ([subtask("a", "a")], "'a' needs itself"),
        ([subtask("a", accept=[{"smell": "good"}])], "'a': accept:"),
        ([subtask("a", role="researcher", accept=[{"run": "true"}])], "only for roles that may run commands"),
        ([subtask(f"t{number}") for number in range(6)], "6 subtasks in all, but the limit is 5"),
    ],
)
def test_what_cannot_work_is_said(subtasks: list[Subtask], says: str) -> None:
    assert any(says in fault for fault in plan.faults(subtasks, SETUP)), plan.faults(subtasks, SETUP)


def test_a_person_may_check_with_a_command_what_a_role_without_commands_did() -> None:
    checked = subtask("a", role="researcher", accept=[{"run": "true"}])
    setup = SETUP.model_copy(update={"plan": (checked,)})
    assert plan.faults([checked], setup) == []
    assert plan.faults([subtask("a", role="researcher", accept=[{"run": "rm -r ."}])], setup) != []


def test_subtasks_of_earlier_plans_count_against_the_limit() -> None:
    subtasks = [subtask("a"), subtask("b")]
    assert plan.faults(subtasks, SETUP, assigned=["a", "c", "d", "e"]) == []
    assert plan.faults(subtasks, SETUP, assigned=["c", "d", "e", "f"]) != []


def test_a_role_of_ones_own_is_given_work() -> None:
    roles = {**SETUP.roles, "editor": RoleSetup(model="m:n")}
    setup = Setup.model_validate(SETUP.model_dump() | {"roles": {k: v.model_dump() for k, v in roles.items()}})
    assert plan.faults([subtask("a", role="editor")], setup) == []


@given(GRAPHS)
def test_what_depends_on_what_is_the_needs_turned_round(subtasks: list[Subtask]) -> None:
    found = plan.dependents({one.id: one for one in subtasks})
    assert {(need, one.id) for one in subtasks for need in one.needs} == {(a, b) for a, bs in found.items() for b in bs}
    for one in subtasks:
        reached = plan.closure([one.id], found)
        assert one.id in reached
        assert all(reached.issuperset(found[name]) for name in reached)
