"""How a request is put into words: what is stable first, so that a prompt's beginning can be cached. Pure."""

from collections.abc import Iterable

from agents.briefing import Briefing, Finding
from agents.canonical import canonical_json

MOST_FILES = 40
"""Files named in a prompt; the rest can be listed with a tool."""


def section(title: str, body: str) -> str:
    """Return a titled part of a prompt, or nothing for an empty one."""
    return f"{title}:\n{body}\n\n" if body else ""


def task(briefing: Briefing, instruction: str, feedback: Iterable[str]) -> str:
    """Return what an agent is told of its subtask."""
    done = [f"{deed.tool}({canonical_json(deed.arguments).decode()})" for deed in briefing.outward.values()]
    told = (
        section("Goal", briefing.goal)
        + section("Your subtask", instruction)
        + section("Results you build on", "\n\n".join(map(result, briefing.findings)))
        + section("Files in the project", file_list(briefing.start))
        + section("Done already to the outside world, not to be repeated", bullets(done))
        + rejection(feedback)
    )
    return told.rstrip()


def rejection(feedback: Iterable[str]) -> str:
    """Return what an agent is told of attempts that were not accepted."""
    return section(
        "An earlier attempt was not accepted. Do it differently this time. What was wrong", bullets(feedback)
    )


def result(finding: Finding, text: str | None = None) -> str:
    """Return one result in words; `text` in the place of its own."""
    files = f"\nfiles: {', '.join(finding.files)}" if finding.files else ""
    return f"[{finding.subtask}] {finding.text if text is None else text}{files}"


def file_list(paths: Iterable[str]) -> str:
    """Return names of files, one a line, not too many."""
    names = sorted(paths)
    more = f"\n… and {len(names) - MOST_FILES} more" if len(names) > MOST_FILES else ""
    return "\n".join(names[:MOST_FILES]) + more


def bullets(lines: Iterable[str]) -> str:
    """Return lines as a list."""
    return "\n".join(f"- {line}" for line in lines)
