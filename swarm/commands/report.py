"""What a run came to, in words or as the object that programs read."""

import json
import shlex
import sys
from typing import TYPE_CHECKING

from swarm.runs.outcome import Outcome, SubtaskReport
from swarm.views.terminal import has_colour, note, one_line, paint, say, say_json, shown
from swarm.views.wording import clock, dollars

if TYPE_CHECKING:
    from bus.archive import Contents

_MOST_FILES = 20
STYLES = {"accepted": "bold green", "failed": "bold red", "paused": "bold yellow", "running": "bold cyan"}
_LONG = 2_000
"""Characters of a reason; what is longer stands in the log."""


def report(outcome: Outcome, *, as_json: bool, imported: bool = False, bus: str | None = None) -> None:
    """Print the outcome on standard output; an imported run goes on only as a fork. `bus`: where its hub is."""
    if as_json:
        say_json(outcome.model_dump_json())
        return
    colour = has_colour(sys.stdout)
    say(f"{paint(outcome.outcome, STYLES[outcome.outcome], colour=colour)}  {outcome.run}")
    say(f"  why    {_indented(outcome.reason)}")
    for number, subtask in enumerate(outcome.subtasks):
        say(f"  {'plan' if number == 0 else '    '}   {_subtask(subtask)}")
    _say_files(outcome)
    for answer in _answers(outcome):
        say(f"  answer {_in_column(answer)}")
    say(f"  cost   {cost_line(outcome)}")
    say(f"  limits {limits_line(outcome)}")
    if outcome.head:
        say(f"  head   {outcome.head}")
    for label, command in _next_to_import(outcome) if imported else _next(outcome):
        there = f"{command} --bus {shlex.quote(bus)}" if bus else command
        say(f"  {label:<6} {paint(there, 'cyan', colour=colour)}")
    if outcome.not_written:
        note(shown(f"swarm: {outcome.not_written}"))


def report_archive(what: str, contents: "Contents", *, as_json: bool) -> None:
    """Print what an archive holds."""
    from swarm.views.measures import size  # noqa: PLC0415 - loads only where it is used

    file = str(contents.path)
    if as_json:
        told = {"run": contents.run, "file": file, "events": contents.events, "head": contents.head}
        say(json.dumps(told | {"files": contents.files, "bytes": contents.bytes}))
        return
    colour = has_colour(sys.stdout)
    say(f"{paint(what, 'bold', colour=colour)}  {contents.run}  {shown(file)}")
    say(f"  events {contents.events:,}, with the head {contents.head}")
    say(f"  files  {contents.files:,} ({size(contents.bytes)})")
    if what == "imported":
        for label, command in (("show", f"swarm show {contents.run}"), ("log", f"swarm log {contents.run}")):
            say(f"  {label:<6} {paint(command, 'cyan', colour=colour)}")


def limits_line(outcome: Outcome) -> str:
    """Return how much of each limit is used, in a line."""
    units = {"time": " s", "money": " USD"}
    return " · ".join(
        f"{name} {one.used:,.6g} of {one.limit:,.9g}{units.get(name, '')}" for name, one in outcome.limits.items()
    )


def cost_line(outcome: Outcome) -> str:
    """Return calls, tokens, money and time in a line."""
    tokens = outcome.tokens
    unproven = f" + {tokens.unproven:,} that may have been billed" if tokens.unproven else ""
    estimated = f" ({tokens.estimated:,} of them estimated)" if tokens.estimated else ""
    money = "price not known" if outcome.cost_usd is None else dollars(outcome.cost_usd)
    if tokens.estimated and outcome.cost_usd:
        money = f"about {money}"
    return (
        f"{money} · {tokens.input:,} + {tokens.output:,} tokens{estimated}{unproven} in "
        f"{outcome.model_calls} model calls · {outcome.tool_calls} tool calls · "
        f"{clock(int(outcome.seconds * 1000))} · {outcome.events} events"
    )


def _say_files(outcome: Outcome) -> None:
    if outcome.files:
        place = shown(outcome.folder) if outcome.folder else "in the store"
        say(f"  files  {len(outcome.files)} {place}")
    for file in outcome.files[:_MOST_FILES]:
        say(f"         {one_line(file.path, 200)}  ({file.bytes:,} bytes)")
    if len(outcome.files) > _MOST_FILES:
        say(f"         … and {len(outcome.files) - _MOST_FILES} more")
    if outcome.deleted:
        names = one_line(", ".join(outcome.deleted), 200)
        say(f"  gone   {len(outcome.deleted)} of the workspace's files: {names}")
    if outcome.unmatched:
        say(f"  none   of the files fits `outcome`: {one_line(', '.join(map(repr, outcome.unmatched)), 200)}")


def _answers(outcome: Outcome) -> list[str]:
    """Return the results in which a plan ends that has made no file: where that was asked for, they are the outcome."""
    if outcome.outcome != "accepted" or outcome.files:
        return []
    needed = {need for subtask in outcome.subtasks for need in subtask.needs}
    return [subtask.text for subtask in outcome.subtasks if subtask.id not in needed and subtask.text]


def _subtask(subtask: SubtaskReport) -> str:
    tries = f", {subtask.attempts} attempts" if subtask.attempts > 1 else ""
    return f"{one_line(subtask.id, 64)} ({one_line(subtask.role, 64)}): {subtask.status}{tries}"


def _next(outcome: Outcome) -> list[tuple[str, str]]:
    run = shlex.quote(outcome.run)
    look = [("log", f"swarm log {run}")]
    if any(subtask.status == "in_doubt" for subtask in outcome.subtasks):
        return [("go on", f"swarm resume {run} --in-doubt retry|skip|fail"), *look]
    if outcome.outcome == "paused":
        return [("go on", f"swarm resume {run}"), *look]
    if (outcome.files and outcome.folder is None) or outcome.unmatched:
        look.append(("files", f"swarm show {run} --files FOLDER"))
    if outcome.outcome == "failed" and "limit" in outcome.reason:
        look.insert(0, ("go on", f"swarm resume {run} --set limits.NAME=MORE"))
    return look


def _next_to_import(outcome: Outcome) -> list[tuple[str, str]]:
    run = shlex.quote(outcome.run)
    look = [("log", f"swarm log {run}"), ("go on", f"swarm fork {run} --at {outcome.events}")]
    return [*look, ("files", f"swarm show {run} --files FOLDER")] if outcome.files and not outcome.folder else look


def _indented(text: str) -> str:
    return _in_column(text if len(text) <= _LONG else f"{text[:_LONG]}…")


def _in_column(text: str) -> str:
    return shown(text).strip().replace("\n", "\n         ")
