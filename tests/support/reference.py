"""The pages that are made from the code: `python -m tests.support.reference` writes them under docs/.

What the code says is taken from it. What it does not say, who may cause an event and what may follow it, stands in
`STORIES`; `tests/test_docs.py` holds that against simulated runs.
"""

import inspect
import re
from pathlib import Path
from typing import NamedTuple

import agents.briefing
import agents.check
import agents.context
import agents.role
import agents.tool
import bus.envelope
import bus.events
import bus.setup
from agents.journal import KINDS
from bus.events import EVENTS
from swarm.brokers.broker_config import config_files
from tests.support.class_source import Field, class_nodes, doc_of, fields_of, methods_of, section_of
from tests.support.scenario_page import scenario_page
from tests.support.wire_page import with_parts
from tests.support.wire_schema import schema_text

DOCS = Path(__file__).parents[2] / "docs"
OF_ROLES = (agents.briefing, agents.check, agents.context, agents.tool)


class Story(NamedTuple):
    """What the code of an event does not say: who may cause it, and which events may follow from it."""

    by: str
    then: str


AGENT = "the agent that holds the lease"
RULES = "the rules (`decide`)"
ALWAYS = (
    "PlanRequested",
    "SubtaskAssigned",
    "ReviewRequested",
    "CallGranted",
    "CallRefused",
    "WorkFailed",
    "GoalFailed",
)
"""What may follow any event, since it may free an agent, free tokens, or come when a deadline has passed."""

STORIES = {
    "GoalSubmitted": Story(
        "who starts the run", "`PlanProposed` with the scenario's own plan; else a planner is asked"
    ),
    "GoalAccepted": Story(RULES, "nothing: the run has ended"),
    "GoalFailed": Story(RULES, "nothing, unless `RunResumed` raises the limit that ended it"),
    "RunPaused": Story(
        f"a person (Ctrl-C), or {RULES} where a part is missing or a call is in doubt",
        "`DoubtSettled`, `RunResumed`, `CancelAsked`",
    ),
    "RunResumed": Story("a person (`swarm resume`)", "`AgentJoined`; what was being worked on is handed out again"),
    "RunMoved": Story("a hub that takes over from another", "whatever was under way goes on"),
    "CancelAsked": Story("a person (`swarm cancel`)", "`GoalFailed` of kind `cancelled`"),
    "RunForked": Story("a person (`swarm fork`)", "`AgentJoined`; what was being worked on is handed out again"),
    "JournalCut": Story("the agent that holds the lease, in a fork", "the effects of its own way"),
    "TimePassed": Story("the orchestrator's clock", "`WorkFailed` of kind `deadline`, `GoalFailed` of kind `limit`"),
    "NoProgressNoticed": Story(RULES, "`PlanRefused` for a plan; else another attempt or another plan"),
    "AgentJoined": Story("an agent, by the card that it publishes", "requests that its roles can take"),
    "AgentLeft": Story("an agent that takes its card back, or its last will", "its requests, handed to others"),
    "AssignmentEnded": Story(
        f"{AGENT}, or the orchestrator where it fell silent",
        "the same attempt for another agent; `RunPaused` if `pause`",
    ),
    "PlanRequested": Story(RULES, "effects, then `PlanProposed` or `WorkFailed`"),
    "PlanProposed": Story(
        f"the planner; {RULES} where the scenario has a plan", "`NoProgressNoticed`, `PlanRefused`, or work"
    ),
    "PlanRefused": Story(RULES, "another `PlanRequested`, or `GoalFailed`"),
    "SubtaskAssigned": Story(RULES, "effects, then `ResultSubmitted` or `WorkFailed`"),
    "ResultSubmitted": Story(
        AGENT,
        "`ReviewRequested` where the subtask has `accept`; else `FilesMerged`, `MergeTried`; `NoProgressNoticed`",
    ),
    "WorkFailed": Story(f"{AGENT}, or {RULES} at a deadline", "another attempt, another plan, or `GoalFailed`"),
    "ReviewRequested": Story(RULES, "effects, then `ReviewGiven` or `WorkFailed`"),
    "ReviewGiven": Story(
        "the critic that holds the lease",
        "`FilesMerged`, `MergeTried`, another attempt; of the outcome: `GoalAccepted`",
    ),
    "MergeTried": Story("the orchestrator, which compares the bytes", "`FilesMerged`, `FilesConflicted`"),
    "FilesMerged": Story(RULES, "`MergeTried`, `FilesMerged` of the next result; the subtasks that needed it"),
    "FilesConflicted": Story(RULES, "another attempt on top of the other's files; `FilesMerged` of the next result"),
    "DoubtSettled": Story(
        "a person (`swarm resume`)", "`RunResumed`; `skip`: `ToolReturned` with what the agent is told"
    ),
    "ModelAsked": Story(AGENT, "`CallGranted` where it had to wait; `ModelAnswered`, `ModelTryFailed`, `CallRefused`"),
    "CallGranted": Story(RULES, "`ModelAnswered` or `ModelTryFailed`"),
    "CallRefused": Story(RULES, "`GoalFailed` of kind `limit`"),
    "ModelTryFailed": Story(AGENT, "`ModelAsked` with the next number; else the attempt ends"),
    "ModelAnswered": Story(AGENT, "the next effect of the role, or its reply"),
    "ToolCalled": Story(AGENT, "`ToolReturned` at the same path"),
    "ToolReturned": Story(AGENT, "the next effect of the role, or its reply"),
    "CheckStarted": Story(AGENT, "`CheckEnded` at the same path"),
    "CheckEnded": Story(AGENT, "the next effect of the role, or its reply"),
    "ValueDrawn": Story(AGENT, "the next effect of the role, or its reply"),
}

EVERYWHERE = {
    "attempt": "which attempt at its request, from 1",
    "path": "where in the role's code the effect stands",
    "number": "the try, from 1",
    "digest": "SHA-256 over the canonical JSON of what is asked for",
    "reason": "why, in words",
    "why": "why, in words",
    "agent": "the agent's name",
    "deadline_ms": "running time at which the attempt is over",
    "feedback": "why the attempts before were not enough",
    "effects": "how many effect events belong to the attempt, all recorded before this counts",
    "subtask": "the subtask, or its id",
    "files": "files by path and hash",
    "paths": "paths in the run's tree",
    "subtasks": "the plan's nodes",
    "tool": "the tool's name",
    "arguments": "what the tool was called with",
    "criterion": "the entry of `accept`",
    "model": "`provider:name`",
    "sampling": "how the answer is drawn: temperature",
    "tools": "names of the tools offered",
    "input_bound": "an upper bound of the prompt's tokens",
    "max_tokens": "the most tokens of the answer",
    "usage": "tokens that the endpoint reports",
    "text": "what was said",
    "kind": "which kind of it",
    "accept": "the criteria",
    "value": "what came of it",
    "named": "files that failed checks name",
}
"""What fields mean wherever they occur without a docstring of their own."""


def meaning(field: Field, told_above: str) -> str:
    """Return what a field means; where its class's docstring names it, that stands above it already."""
    if field.told:
        return field.told
    if f"`{field.name}`" in told_above:
        return "see above"
    return EVERYWHERE.get(field.name, "")


def events_page() -> str:
    """Return docs/events.md."""
    nodes = class_nodes(bus.events)
    parts = [_EVENTS_HEAD, _table(fields_of(class_nodes(bus.envelope)["Envelope"]), "", "attribute in our code")]
    heading = ""
    for name in EVENTS:
        if (section := section_of(bus.events, name)) != heading:
            heading = section
            parts.append(f"## {heading}\n")
        told = _flowing(doc_of(nodes[name]))
        fields = fields_of(nodes[name])
        story = STORIES[name]
        parts.append(f"### {name}\n\n{told}\n\nBy: {story.by}. Then: {story.then}.\n")
        if fields:
            parts.append(_table(fields, told))
    parts.append(_VALUES_HEAD)
    for name, node in [*class_nodes(bus.setup).items(), *nodes.items()]:
        if name not in EVENTS and name not in {"Value", "Fact"}:
            told = _flowing(doc_of(node))
            parts.append(f"### {name}\n\n{told}\n\n{_table(fields_of(node), told)}")
    return "\n".join(parts).rstrip() + "\n"


def roles_page() -> str:
    """Return docs/roles.md."""
    context = class_nodes(agents.context)["Context"]
    parts = [_ROLES_HEAD]
    parts += [f"### `{method.signature}`\n\n{_flowing(method.told)}\n" for method in methods_of(context)]
    parts.append("### What they give and take\n")
    for module, name in ((agents.briefing, "Finding"), (agents.context, "Reply"), (agents.check, "Verdict")):
        node = class_nodes(module)[name]
        parts.append(f"`{name}`: {_flowing(doc_of(node))}\n\n{_table(fields_of(node), doc_of(node))}")
    parts.append(_PLANNERS_AND_CRITICS)
    parts.append(_EFFECTS_HEAD)
    by_kind: dict[str, list[str]] = {}
    for event, kind in KINDS.items():
        by_kind.setdefault(kind, []).append(event.__name__)
    parts.append("| effect | recorded as |\n| --- | --- |")
    parts += [f"| {kind} | {', '.join(f'`{name}`' for name in names)} |" for kind, names in by_kind.items()]
    parts.append(_DETERMINISM)
    parts.append(_TOOLS_HEAD.format(told=_flowing(inspect.getdoc(agents.tool.tool) or "")))
    parts.append(_table(fields_of(class_nodes(agents.tool)["ToolContext"]), "", "of `ToolContext`"))
    return "\n".join(parts).rstrip() + "\n"


def _table(fields: list[Field], told: str, first: str = "field") -> str:
    if not fields:
        return ""
    rows = [f"| {first} | type | meaning |", "| --- | --- | --- |"]
    for field in fields:
        default = "" if field.default is None else f" = {field.default}"
        kind = f"{field.type}{default}".replace("|", "\\|")
        rows.append(f"| `{field.name}` | `{kind}` | {meaning(field, told)} |")
    return "\n".join(rows) + "\n"


def _flowing(text: str) -> str:
    """Return a docstring with its paragraphs each on one line."""
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text))


_EVENTS_HEAD = f"""\
# Events

<!-- Made from bus/events.py, bus/setup.py and bus/envelope.py by `make docs`; do not edit. -->

Everything that happens in a run is one of these facts, in the run's log, in this order: recorded first, then said. The
orchestrator of a run is the only writer of its log; it takes what agents send if the rules admit it
(`swarm/core/admit.py`), and records what follows (`swarm/core/decide.py`).

After **any** event these may follow, because it may have freed an agent or tokens, or a deadline may have passed:
{", ".join(f"`{name}`" for name in ALWAYS)}.

Three kinds matter most. A *request* (`PlanRequested`, `SubtaskAssigned`, `ReviewRequested`) hands one attempt to one
agent; the id of its envelope is the *lease*. A *reply* (`PlanProposed`, `ResultSubmitted`, `ReviewGiven`, `WorkFailed`)
ends it. An *effect* is something that a role did on the way, with the key (request, attempt, path).

`swarm log RUN --json` prints one event a line as a CloudEvents 1.0 object: the fields below are its `data`, `type` is
`swarm.NAME.vVERSION`, and what the envelope says are its attributes (`sequence`, `correlationid`, `causationid`,
`elapsedms`, …).

## Envelope
"""

_VALUES_HEAD = """\
## Values

What events are made of.
"""

_ROLES_HEAD = """\
# Roles and tools of your own

<!-- Made from agents/context.py, agents/journal.py and agents/tool.py by `make docs`; do not edit. -->

A role is a class with one method: one request in, one event out. `README.md` shows one whole. Its `name`, `handles` and
`tools` are class attributes; the first line of its docstring is what planners choose it by; keyword arguments of its
`__init__` come from `with:` in the scenario. What it raises ends the attempt with that reason, and another attempt may
follow.

It keeps nothing between requests: what it must know comes with the request and its context.

A file of roles or tools imports what is installed where swarm runs. For what lies beside it say where that is, also to
`resume`, `replay` and `fork`: `PYTHONPATH=. swarm run letter.yaml`. With that `package.module:Name` works for a package
of yours, too.

## What a role is given

`handle(request, ctx)`. For a role that works on subtasks the request is a `SubtaskAssigned`
([its fields](events.md#subtaskassigned)): `request.subtask.instruction` says what to do, `request.feedback` why
earlier attempts were not accepted. It returns `ctx.result(...)`. A planner is given `PlanRequested` and returns
`PlanProposed`, a critic is given `ReviewRequested` and returns `ReviewGiven`:
[below](#a-planner-and-a-critic-of-your-own).

`ctx` has `role`, `request` (its id), `attempt` (from 1), `feedback`, `briefing.role.prompt` (what the scenario says
under `prompt:`, else None: it is for the role to use), and:
"""

_PLANNERS_AND_CRITICS = """\
## A planner and a critic of your own

Under `roles:` the names `planner` and `critic` may have a class of yours, too. All that they take and give comes with
`import swarm`; the fields are in [events.md](events.md): [PlanRequested](events.md#planrequested),
[PlanProposed](events.md#planproposed), [ReviewRequested](events.md#reviewrequested),
[ReviewGiven](events.md#reviewgiven).

```yaml digest.yaml
goal: Write report.md, which sums up the notes.
workspace: ./notes
roles:
  planner: {uses: "./mine.py:FileByFile"}
  critic: {uses: "./mine.py:Strict"}
accept:
  - file: report.md
```

```python mine.py
from swarm import (
    CheckBroken,
    Context,
    PlanProposed,
    PlanRequested,
    ReviewGiven,
    ReviewRequested,
    Role,
    Subtask,
)


class FileByFile(Role[PlanRequested, PlanProposed]):
    \"""Has each file read by an agent of its own.\"""

    name = "planner"
    handles = PlanRequested

    async def handle(self, request: PlanRequested, ctx: Context) -> PlanProposed:
        read = [
            Subtask(id=f"read-{number}", role="researcher", instruction=f"Sum up {path}.")
            for number, path in enumerate(ctx.files)
        ]
        report = Subtask(
            id="report",
            role="coder",
            instruction="Write report.md from what was found.",
            needs=tuple(one.id for one in read),
            accept=({"file": "report.md"},),  # a `Criterion`: an entry as under `accept:` in a scenario
        )
        return PlanProposed(subtasks=(*read, report))


class Strict(Role[ReviewRequested, ReviewGiven]):
    \"""Takes nothing that is left open.\"""

    name = "critic"
    handles = ReviewRequested
    tools = ("read_file",)

    async def handle(self, request: ReviewRequested, ctx: Context) -> ReviewGiven:
        wrong = []
        for criterion in request.accept:  # of the result of `request.subtask`; where that is None, of the outcome
            verdict = await ctx.check(criterion)  # all but `ask`, which is for you to judge
            if verdict.verdict == "broken":
                raise CheckBroken(verdict.shows)
            if verdict.verdict == "fails":
                wrong.append(verdict.shows)
        for path in ctx.files:
            if "TODO" in await ctx.call_tool("read_file", path=path):
                wrong.append(f"{path} has a TODO")
        return ReviewGiven(accepted=not wrong, feedback="; ".join(wrong) or "All holds, and nothing is left open.")
```

`ctx.briefing.offers` has the roles that a planner may give work to, each with `role`, `about` and `tools`;
`request.feedback` says why another plan is needed. A result without `accept` is never reviewed. What a critic does not
accept goes back with its `feedback`; of the outcome, `redo=(Redo(subtask=…, why=…),)` names the subtasks to do again.
"""

_EFFECTS_HEAD = """\
## Effects and their keys

`converse`, `call_tool`, `check`, `now` and `random` are *effects*: each is recorded in the run's log, and when a role
is run again for the same request (after a crash, say) it gets the recorded outcome instead of doing it again. So a
model call that was paid for is never paid for twice.

An effect is found again by its key: the request, the attempt and a *path*. The path counts the effects of the role's
own task 0, 1, 2 …. An `asyncio` task that the role starts takes the next number at its first effect and counts its own
below it: (2, 0) is the first effect of the task that took number 2. With the key goes a digest of what was asked for;
where the log has another digest at that key, the attempt ends with an error that names both.
"""

_DETERMINISM = """
## What makes a role deterministic

Run again over its recorded outcomes, a role must begin the same effects in the same order.

- Take the clock and chance from the context (`ctx.now()`, `ctx.random()`), never from `time` or `random`.
- Reach the network, programs and other services through tools. Read files of the attempt's folder through
  tools or `ctx.folder()`, not through paths of your own.
- Keep nothing in globals or on `self` from one request to the next.
- Do not let the order of a `set`, of a folder's listing or of `id()` decide what is asked first.
- A timeout or pause of its own (`asyncio.timeout`, `asyncio.sleep`) bounds what the role waits for, and decides nothing
  else: the log has no time of it. In a resume it is waited for again, in a replay it is over at once where nothing else
  can happen.
- Parallel work is fine: `asyncio.gather`, a `TaskGroup`, and `asyncio.as_completed` over tasks that are made in a
  fixed order. Recorded outcomes come back in the order of the log, one at a time, so that what was first then is first
  again. `handle` waits for all tasks that it begins; one that is left behind ends with it.
- Code in a thread (`asyncio.to_thread`) has its effects done in the role's event loop:
  `asyncio.run_coroutine_threadsafe(ctx.call_tool(…), loop).result()`.
- A new version of your code may change a role between two runs, not between a crash and its `resume`.
"""

_TOOLS_HEAD = """\
## Tools

{told} Its typed arguments give the schema, its
docstring is what the model is told.

`network`, `idempotent`, `needs_approval` and `polls` (calling it again with the same answer is no lack of progress) say
more. An error that the model should see is raised as `ToolFailed`.

`ToolFailed` is an outward tool's word that it did not act. After any other exception nobody knows whether it did:
unless it is idempotent the run pauses, as after a crash, and a person says what becomes of the call. The same holds
where a timeout of the role's own cut it off, and the role calls it again.

An argument annotated `ToolContext` is filled by us:
"""


def decisions_page() -> str:
    """Return docs/decisions/README.md: every decision by its title."""
    lines = [_DECISIONS_HEAD]
    for path in sorted((DOCS / "decisions").glob("*.md")):
        if path.name != "README.md":
            title = path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")
            lines.append(f"- [{title}]({path.name})")
    return "\n".join(lines) + "\n"


_DECISIONS_HEAD = """\
# Decisions

<!-- Made from the files of this folder by `make docs`; do not edit. -->

What was decided, why, and what else was tried: one file each.
"""


def pages() -> dict[Path, str]:
    """Return each page that is made from the code."""
    return {
        DOCS / "events.md": events_page(),
        DOCS / "roles.md": roles_page(),
        DOCS / "scenario.md": scenario_page(),
        DOCS / "decisions" / "README.md": decisions_page(),
        DOCS / "wire.md": with_parts((DOCS / "wire.md").read_text(encoding="utf-8")),
        DOCS / "wire.schema.json": schema_text(),
        **{
            DOCS.parent / "deploy/mosquitto" / name: text
            for name, text in config_files("/mosquitto/config", "/mosquitto/data").items()
        },
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
