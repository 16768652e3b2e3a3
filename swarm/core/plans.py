"""Plans asked for, proposed, refused and adopted. In place, for `apply`."""

import hashlib
from collections import deque

from bus.envelope import Envelope
from bus.events import NoProgressNoticed, PlanProposed, PlanRefused
from bus.setup import Subtask
from swarm.core import leases, plan, subtasks, tree
from swarm.core.state import Dropped, RunState, Stuck, SubtaskState, Work


def want_plan(state: RunState, feedback: tuple[str, ...]) -> None:
    """Ask the planner for a plan, or for another one."""
    state.plan_number += 1
    leases.want(
        state,
        Work(f"plan-{state.plan_number}", "plan", "planner", 1, feedback=feedback, round=state.round),
    )


def proposal(state: RunState, envelope: Envelope, event: PlanProposed) -> None:
    """Adopt a plan that can work; keep the reasons where it cannot."""
    asked = state.under(envelope.causation_id)
    if asked is not None:
        leases.answered(state, asked, envelope)
    digest = hashlib.sha256(event.__pydantic_serializer__.to_json(event, include={"subtasks"})).hexdigest()
    setup = state.setup
    found = plan.faults(event.subtasks, setup, assigned=state.assigned, brought=state.brought) if setup else []
    if digest in state.tried_plans:
        state.notice = NoProgressNoticed(what="plan", detail="this plan was proposed before and did not work")
        found = ["this very plan was tried before and did not work; find another way"]
    state.tried_plans.add(digest)
    if found:
        state.refused_plan = tuple(found)
    else:
        _adopt(state, event.subtasks)


def refusal(state: RunState, _: Envelope, event: PlanRefused) -> None:
    """Send a refused plan back, or find that no plan can be had."""
    state.refused_plan = ()
    state.refusals += 1
    if state.refusals >= state.limits.attempts or state.plan_repeats > 1:
        kind = "no_progress" if state.plan_repeats > 1 else "plan"
        state.stuck = Stuck(kind, f"no plan that can work was found: {'; '.join(event.reasons)}", final=True)  # type: ignore[arg-type]
    else:
        want_plan(state, event.reasons)


def _adopt(state: RunState, proposed: tuple[Subtask, ...]) -> None:
    """Make a plan the present one; accepted work of which it asks no more than before stays accepted."""
    before, specs = state.subtasks, {spec.id: spec for spec in proposed}
    accepted = _still_accepted(state, specs)
    approved = _still_approved(state, specs, accepted)
    kept = accepted.union(approved)
    specs |= {name: before[name].spec for name in kept}
    for work in [work for work in state.works.values() if work.subtask is not None]:
        leases.close(state, work)
    state.to_merge, state.tried = deque(), None
    taken_out = subtasks.take_out(state, [name for name in state.accepted_order if name not in accepted])
    merging = {*taken_out, *approved}
    for name in approved:
        subtasks.merge_again(state, before[name])
    state.refusals = 0
    state.needed_by = plan.dependents(specs)
    state.not_accepted = len(specs) - len(kept - merging)
    state.dropped.update(
        (name, Dropped(old.attempts, old.outward)) for name, old in before.items() if old.attempts and name not in kept
    )
    state.subtasks = {
        name: before[name] if name in kept else _fresh(spec, state.dropped.pop(name, None))
        for name, spec in specs.items()
    }
    for name, subtask in state.subtasks.items():
        subtask.unmet = sum(need not in kept or need in merging for need in subtask.spec.needs)
        if name not in kept and subtask.unmet == 0:
            subtasks.ready(state, subtask)
    subtasks.after_acceptance(state)


def _still_accepted(state: RunState, specs: dict[str, Subtask]) -> set[str]:
    """Return the accepted subtasks of which another plan asks no more than before, with all that they stand on."""
    kept: set[str] = set()
    for name in state.accepted_order:  # what a result stands on was accepted before it
        before = state.subtasks[name]
        if _asks_no_more(specs.get(name), before.spec) and kept.issuperset({*before.spec.needs, *before.stands_on}):
            kept.add(name)
    return kept


def _still_approved(state: RunState, specs: dict[str, Subtask], accepted: set[str]) -> list[str]:
    """Return those that were approved, and wait to be merged, of which another plan asks no more than before."""
    waiting = [state.subtasks[name] for name in state.to_merge]
    unchanged = [one for one in waiting if _asks_no_more(specs.get(one.spec.id), one.spec)]
    return [one.spec.id for one in unchanged if accepted.issuperset({*one.spec.needs, *tree.given(state, one)})]


def _asks_no_more(spec: Subtask | None, before: Subtask) -> bool:
    """Tell whether a plan has a subtask as it was, but for needs and checks left out: its planner is not told these."""
    return (
        spec is not None
        and (spec.role, spec.instruction) == (before.role, before.instruction)
        and set(spec.needs).issubset(before.needs)
        and all(entry in before.accept for entry in spec.accept)
    )


def _fresh(spec: Subtask, old: Dropped | None) -> SubtaskState:
    if old is None:
        return SubtaskState(spec)
    return SubtaskState(spec, attempts=old.attempts, uncounted=old.attempts, outward=old.outward)
