"""Each kind of event in words for people: a whole phrase for the timeline, a few words for the live view.

What models, tools and files said is shown cut and with nothing in it that a terminal would obey.
"""

from collections.abc import Iterable, Mapping
from typing import assert_never

from pydantic import JsonValue

from bus.events import (
    AgentJoined,
    AgentLeft,
    AssignmentEnded,
    CallGranted,
    CallRefused,
    CancelAsked,
    CheckEnded,
    CheckStarted,
    DoubtSettled,
    Effect,
    Event,
    FilesConflicted,
    FilesMerged,
    GoalAccepted,
    GoalFailed,
    GoalSubmitted,
    JournalCut,
    MergeTried,
    ModelAnswered,
    ModelAsked,
    ModelTryFailed,
    NoProgressNoticed,
    PlanProposed,
    PlanRefused,
    PlanRequested,
    ResultSubmitted,
    ReviewGiven,
    ReviewRequested,
    RunForked,
    RunMoved,
    RunPaused,
    RunResumed,
    SubtaskAssigned,
    TimePassed,
    ToolCalled,
    ToolReturned,
    ValueDrawn,
    WorkFailed,
)
from bus.setup import FileChange
from swarm.views.terminal import one_line

LONG, SHORT = 160, 60
"""Characters of what somebody said: the heart of a line, and what stands beside."""

MINOR = (ModelAsked, CallGranted, CheckStarted, ToolCalled, TimePassed, AgentJoined, ValueDrawn)
"""Events that only say that something begins; a live view leaves them out."""


def clock(elapsed_ms: int) -> str:
    """Return running time as `m:ss.s`, with hours where there are any."""
    seconds, ms = divmod(elapsed_ms, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    rest = f"{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    return f"{hours}:{rest}.{ms // 100}" if hours else f"{rest}.{ms // 100}"


def dollars(amount: float) -> str:
    """Return an amount of US dollars with as many decimals as it needs to say something."""
    return f"${amount:.2f}" if amount == 0 or amount >= 1 else f"${amount:.4f}" if amount >= 0.0001 else "<$0.0001"  # noqa: PLR2004


def doing(event: Event) -> str | None:  # noqa: PLR0911 - one case an event
    """Return what an agent is doing once it has recorded this event, in a few words; None where that says nothing."""
    match event:
        case ModelAsked(number=number):
            return "thinks" if number == 1 else f"thinks (try {number})"
        case ModelAnswered(calls=calls) if calls:
            return f"wants {', '.join(one_line(call.name, SHORT) for call in calls[:3])}"
        case ModelAnswered(text=text):
            return f"said: {one_line(text or '', SHORT)}"
        case ModelTryFailed(reason=reason):
            return f"got no answer: {one_line(reason, SHORT)}"
        case ToolCalled(tool=tool, arguments=arguments) | ToolReturned(tool=tool, arguments=arguments):
            return _call(tool, arguments)
        case CheckStarted(criterion=criterion):
            return f"checks {_entry(criterion)}"
        case CheckEnded(criterion=criterion, verdict=verdict):
            return f"checked {_entry(criterion)}: {verdict}"
        case _:
            return None


def words(  # noqa: C901, PLR0911, PLR0912 - one case an event
    event: Event, subject: str, *, planned: bool
) -> tuple[str, str]:
    """Return what happened and its style; `planned`: a plan is an agent's answer, not the scenario's own."""
    match event:
        case GoalSubmitted(setup=setup):
            return f"begins {setup.name}: {one_line(setup.goal, LONG)}", "bold"
        case GoalAccepted(reason=reason, files=files):
            return (
                f"goal reached: {one_line(reason, LONG)} {_files(file.path for file in files)}".rstrip(),
                "bold green",
            )
        case GoalFailed(reason=reason, kind=kind):
            return f"goal not reached ({kind}): {one_line(reason, LONG)}", "bold red"
        case RunPaused(reason=reason):
            return f"paused: {one_line(reason, LONG)}", "yellow"
        case DoubtSettled(request=request, tool=tool, verdict=verdict):
            return (
                f"is told what to do about {one_line(tool, SHORT)} in {one_line(request, SHORT)}: {verdict}",
                "yellow",
            )
        case RunResumed(changes=changes):
            return f"goes on{f' with {_pairs(changes)}' if changes else ''}", "yellow"
        case RunMoved(hub=hub):
            return f"goes on under hub {one_line(hub, SHORT)}", "yellow"
        case CancelAsked(reason=reason):
            return f"is to end: {one_line(reason, LONG)}", "yellow"
        case RunForked(parent=parent, at=at, changes=changes):
            told = f" with {_pairs(changes)}" if changes else ""
            return f"begins another future of {one_line(parent, SHORT)} from its event {at}{told}", "bold"
        case JournalCut():
            return f"{subject}: asks for something else than its past has, and lives from here on", "yellow"
        case PlanProposed(subtasks=subtasks):
            steps = "; ".join(
                f"{one.id} ({one.role}{', after ' + ', '.join(one.needs) if one.needs else ''})" for one in subtasks
            )
            whose = "plans" if planned else "takes the scenario's plan:"
            return f"{whose} {len(subtasks)} subtask{_s(len(subtasks))}: {one_line(steps, 2 * LONG)}", "cyan"
        case PlanRefused(reasons=reasons):
            return f"refuses the plan: {one_line('; '.join(reasons), LONG)}", "red"
        case NoProgressNoticed(what=what, detail=detail):
            return f"sees no progress ({what} again): {one_line(detail, LONG)}", "yellow"
        case MergeTried(subtask=subtask, merged=merged, clashes=clashes):
            came = [f"{change.path} can be merged" for change in merged]
            came += [f"{clash.path} cannot: {clash.why}" for clash in clashes]
            return f"compares what {subtask} and others changed: {one_line('; '.join(came), LONG)}", "dim"
        case FilesMerged(subtask=subtask, files=files, merged=merged):
            with_others = f", merged with others' changes: {_names(merged)}" if merged else ""
            return f"accepts {subtask} {_changed(files)}".rstrip() + with_others, "green"
        case FilesConflicted(subtask=subtask, paths=paths, others=others):
            return f"finds that {subtask} and {_names(others)} changed {_names(paths)} differently", "red"
        case TimePassed():
            return "sees a deadline pass", "dim"
        case AgentJoined() | AgentLeft() | AssignmentEnded() | PlanRequested() | SubtaskAssigned() | ReviewRequested():
            return _words_to_agents(event, subject)
        case ResultSubmitted() | WorkFailed() | ReviewGiven():
            return _words_of_replies(event, subject)
        case _:
            return f"{subject}: {_words_of_effects(event)}", _style_of_effects(event)


def _words_to_agents(
    event: AgentJoined | AgentLeft | AssignmentEnded | PlanRequested | SubtaskAssigned | ReviewRequested, subject: str
) -> tuple[str, str]:
    match event:
        case AgentJoined(agent=agent, roles=roles, slots=slots):
            what = f"joins as {_names(roles)}, for {slots} at once" if slots else "takes nothing more, and will leave"
            what = what if roles else "is there, and is taken for none of its roles"
            return f"{_agent(agent)} {what}", "dim"
        case AgentLeft(agent=agent, why=why):
            return f"{_agent(agent)} leaves: {one_line(why, LONG)}", "yellow"
        case AssignmentEnded(why=why):
            return f"gives up an assignment: {one_line(why, LONG)}", "yellow"
        case PlanRequested(agent=agent, round=number, feedback=feedback):
            return f"→ {_agent(agent)}: {subject}, a plan for round {number}{_because(feedback)}", "blue"
        case SubtaskAssigned(subtask=subtask, agent=agent, attempt=attempt, feedback=feedback):
            told = _because(feedback) or f": {one_line(subtask.instruction, LONG)}"
            return f"→ {_agent(agent)}: {subtask.id}, attempt {attempt}{told}", "blue"
        case ReviewRequested(subtask=subtask, agent=agent, of_attempt=attempt, accept=accept):
            what = f"{subtask}, attempt {attempt}" if subtask else "the whole outcome"
            against = f" against {len(accept)} criteri{'on' if len(accept) == 1 else 'a'}" if accept else ""
            return f"→ {_agent(agent)}: {subject}, a review of {what}{against}", "blue"


def _words_of_replies(event: ResultSubmitted | WorkFailed | ReviewGiven, subject: str) -> tuple[str, str]:
    match event:
        case ResultSubmitted(text=text, files=files):
            told = f"{_changed(files)} {one_line(text, LONG)}".strip()
            return f"hands in {subject}: {told}", "cyan"
        case WorkFailed(reason=reason, kind=kind):
            return f"gives up {subject} ({kind}): {one_line(reason, LONG)}", "red"
        case ReviewGiven(accepted=True, feedback=feedback):
            return f"{subject}: good{f': {one_line(feedback, LONG)}' if feedback else ''}", "green"
        case ReviewGiven(feedback=feedback, redo=redo):
            again = f" (again: {_names(one.subtask for one in redo)})" if redo else ""
            return f"{subject}: sent back{again}: {one_line(feedback, LONG)}", "red"


def _words_of_effects(event: Effect | CallGranted | CallRefused) -> str:  # noqa: C901, PLR0911 - one case an event
    match event:
        case ModelAsked(model=model, messages=messages, number=number, input_bound=bound, max_tokens=most):
            again = f", try {number}" if number > 1 else ""
            new = f"{len(messages)} new message{_s(len(messages))}"
            return f"asks {one_line(model, SHORT)}{again} ({new}; at most {bound:,} + {most:,} tokens)"
        case CallGranted(max_tokens=most):
            return f"may ask now, for at most {most:,} tokens"
        case CallRefused(reason=reason):
            return f"may not ask: {one_line(reason, LONG)}"
        case ModelTryFailed(number=number, reason=reason, wait_ms=wait, unproven=unproven):
            again = f"tries again in {wait / 1000:.1f} s" if wait else "to be tried again"  # at once, or after a pause
            then = "no further try" if wait is None else again
            counted = ", counted in full" if unproven else ""
            return f"got no answer (try {number}{counted}): {one_line(reason, LONG)}; {then}"
        case ModelAnswered(text=text, calls=calls, finish=finish):
            cut_off = f" ({finish})" if finish in {"length", "content_filter"} else ""
            said = f"says: {one_line(text, LONG)}" if text else ""
            wants = ", ".join(f"{one_line(call.name, SHORT)}({one_line(call.arguments, SHORT)})" for call in calls)
            return (
                f"{said}{' and ' if said and wants else ''}{f'wants {wants}' if wants else ''}{cut_off}"
                or "says nothing"
            )
        case ToolCalled(tool=tool, arguments=arguments):
            return f"begins {_call(tool, arguments)}"
        case ToolReturned(tool=tool, arguments=arguments, output=output, error=error, files=files):
            changed = f" {_changed(files)}" if files else ""
            return f"{_call(tool, arguments)} {'failed' if error else 'gave'}: {one_line(output, LONG)}{changed}"
        case CheckStarted(criterion=criterion):
            return f"begins to check {_entry(criterion)}"
        case CheckEnded(criterion=criterion, verdict=verdict, shows=shows):
            return f"checked {_entry(criterion)}: {verdict}{f' ({one_line(shows, LONG)})' if shows else ''}"
        case ValueDrawn(kind=kind):
            return "reads the clock" if kind == "now" else "draws a random number"
        case _:
            assert_never(event)


def _style_of_effects(event: Event) -> str:
    match event:
        case CallRefused() | ModelTryFailed() | ToolReturned(error=True) | CheckEnded(verdict="fails" | "broken"):
            return "red"
        case CheckEnded():
            return "green"
        case ModelAnswered() | ToolReturned():
            return ""
        case _:
            return "dim"


def _agent(agent: str) -> str:
    return one_line(agent.removeprefix("local/"), SHORT)


def _because(feedback: tuple[str, ...]) -> str:
    return f", because: {one_line('; '.join(feedback), LONG)}" if feedback else ""


def _files(paths: Iterable[str]) -> str:
    return f"[{_names(paths)}]" if (paths := tuple(paths)) else ""


def _changed(files: Iterable[FileChange]) -> str:
    return _files(one.path if one.sha256 is not None else f"{one.path} deleted" for one in files)


def _names(names: Iterable[str]) -> str:
    return one_line(", ".join(names), LONG)


def _pairs(values: Mapping[str, JsonValue]) -> str:
    return ", ".join(f"{one_line(name, SHORT)} {one_line(str(value), SHORT)}" for name, value in values.items())


def _call(tool: str, arguments: Mapping[str, JsonValue]) -> str:
    told = ", ".join(f"{name}={one_line(str(value), SHORT)}" for name, value in arguments.items())
    return f"{one_line(tool, SHORT)}({one_line(told, LONG)})"


def _entry(criterion: Mapping[str, JsonValue]) -> str:
    return ", ".join(f"{name} {one_line(str(value), SHORT)}" for name, value in criterion.items())


def _s(count: int) -> str:
    return "" if count == 1 else "s"
