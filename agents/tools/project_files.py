"""Read, write, edit, list and search the files of the project.

What the functions return and raise is read by a model: it says what was left out, and what to do next. All of it is
bounded. Lines are those between line feeds, of which one that is too long to be shown at once counts as several.
"""

import asyncio
import difflib
import heapq
import itertools
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from agents.checking import bounded, regex_search
from agents.conversation.fitting import OUTPUT_CAP
from agents.errors import ToolFailed
from agents.files import names as file_names
from agents.files import plain_text
from agents.files.project_folder import ProjectFolder
from agents.tool import ToolContext, tool

SHOWN = 16_000
"""Bytes of a file that are shown at once: with notes still below `OUTPUT_CAP`, beyond which the middle is cut out."""
NOTES = OUTPUT_CAP - SHOWN
LISTED = 500
MATCHES = 100
LINE = 300
"""Characters of a line that are shown in a search, around the place."""
COMPARED = 120
"""Characters of a line that are compared with others: exact comparison is quadratic, so only likely lines get it."""
SEARCHED_FILE = 1 << 20
SEARCHED = 16 << 20
"""Bytes of all files that one search reads."""


@tool(effect="reads")
async def read_file(
    path: str,
    context: ToolContext,
    first_line: Annotated[int, Field(ge=1)] = 1,
    lines: Annotated[int, Field(ge=0, description="how many; 0 means to the end")] = 0,
) -> str:
    """Read a text file of the project, or some of its lines."""
    data = await asyncio.to_thread(context.folder.read, path)
    try:
        text, note = plain_text.decode(data)
    except ValueError as error:
        raise ToolFailed(f"{path!r} cannot be read: {error}.") from error
    if not text:
        return "[the file is empty]"
    notes = [note] if note else []
    all_lines = _lines(text)
    wanted = all_lines[first_line - 1 : first_line - 1 + lines if lines else None]
    if not wanted:
        raise ToolFailed(f"{path!r} has {len(all_lines)} lines; there is no line {first_line}.")
    ends = itertools.accumulate(_bytes(line) for line in wanted)
    room = min(SHOWN, context.shown - NOTES)
    whole = sum(end <= room for end in ends) or 1
    last = first_line + whole - 1
    if whole < len(wanted):
        notes.append(f"go on with first_line={last + 1}")
    if (first_line, last) != (1, len(all_lines)):
        notes.insert(0, f"lines {first_line} to {last} of {len(all_lines)}")
    return _with_notes("".join(wanted[:whole]), notes)


@tool(effect="folder")
async def write_file(path: str, content: str, context: ToolContext) -> str:
    """Write a text file of the project: make it, or replace all of it. Folders on its path are made."""
    data = _encoded(content)
    await asyncio.to_thread(context.folder.write, path, data)
    return f"Wrote {path!r}: {len(_lines(content))} lines, {len(data):,} bytes."


@tool(effect="folder")
async def edit_file(
    path: str,
    old: Annotated[str, Field(description="text that occurs exactly once, with its white space")],
    new: Annotated[str, Field(description="text in its place")],
    context: ToolContext,
) -> str:
    """Replace one place of a text file of the project."""
    return await asyncio.to_thread(_edit, context.folder, path, old, new)


@tool(effect="reads")
async def list_files(
    context: ToolContext,
    pattern: Annotated[str, Field(description="such as *.py, src/**/*.md or material/")] = "**",
) -> str:
    """List the files of the project with their sizes in bytes."""
    survey = await asyncio.to_thread(context.folder.survey)
    means = file_names.pattern(pattern)
    found = [entry for entry in survey.entries if means(entry.path)]
    notes = [*_more(len(found), LISTED, "files; use a narrower pattern"), *survey.left_out[:10]]
    if not found:
        return _with_notes(_none(pattern, [entry.path for entry in survey.entries]), notes)
    return _with_notes("\n".join(f"{entry.path} ({entry.bytes})" for entry in found[:LISTED]), notes)


@tool(effect="reads")
async def search_files(
    text: Annotated[str, Field(min_length=1)],
    context: ToolContext,
    pattern: Annotated[str, Field(description="files to search, such as *.py")] = "**",
    *,
    regex: Annotated[bool, Field(description="text is a regular expression of Python")] = False,
) -> str:
    """Find the lines of the project's text files that contain a text; case matters."""
    return await asyncio.to_thread(_search, context.folder, text, pattern, regex=regex)


def _edit(folder: ProjectFolder, path: str, old: str, new: str) -> str:
    if not old:
        raise ToolFailed("'old' is empty. To write a whole file use write_file.")
    if old == new:
        raise ToolFailed("'old' and 'new' are the same; nothing was changed.")
    try:
        text = folder.read(path).decode()
    except UnicodeDecodeError as error:
        raise ToolFailed(f"{path!r} is no UTF-8 text (byte {error.start}); it was not changed.") from error
    feeds = "\r" not in old  # models write line feeds alone, whatever the file has
    searched = text.replace("\r\n", "\n") if feeds else text
    begin = searched.find(old)
    count = searched.count(old) + (
        searched.count(old) == 1 and searched.find(old, begin + 1) >= 0
    )  # overlapping itself
    if count != 1:
        hint = _places(searched, old) if count else _nearest(searched, old)
        raise ToolFailed(f"'old' occurs {count} times in {path!r}, not once; nothing was changed. {hint}")
    end = begin + len(old)
    if feeds:
        begin, end, new = _with_returns(text, searched, begin, end, new)
    folder.write(path, _encoded(text[:begin] + new + text[end:]))
    first = text.count("\n", 0, begin) + 1
    return f"Changed {path!r} from line {first}: {len(_lines(old))} lines became {len(_lines(new))}."


def _with_returns(text: str, without: str, begin: int, end: int, new: str) -> tuple[int, int, str]:
    """Return where a place lies that was found without carriage returns, and `new` with the line ends of that place."""
    lines = _lines(text)
    first = without.count("\n", 0, begin)
    last = without.count("\n", 0, end)
    before, within = (sum(line.endswith("\r\n") for line in part) for part in (lines[:first], lines[first:last]))
    around = next((line for line in (*lines[first : first + 1], *lines[:first][-1:]) if line.endswith("\n")), "")
    if around.endswith("\r\n"):
        new = new.replace("\r\n", "\n").replace("\n", "\r\n")
    return begin + before, end + before + within, new


def _places(text: str, old: str) -> str:
    """Say where a text occurs, and what makes it occur once."""
    places: list[int] = []
    begin = -1
    while len(places) < 10 and (begin := text.find(old, begin + 1)) >= 0:  # noqa: PLR2004 - a line of numbers
        places.append(text.count("\n", 0, begin) + 1)
    return f"It begins in the lines {', '.join(map(str, places))}. Take more lines around it into 'old'."


def _nearest(text: str, old: str) -> str:
    """Show the lines that are most like the first line of what was looked for."""
    wanted = next((line.strip() for line in old.splitlines() if line.strip()), "")[:COMPARED]
    lines = _lines(text)
    bare = {number: line.strip()[:COMPARED] for number, line in enumerate(lines[:2_000], 1) if line.strip()}
    compare = difflib.SequenceMatcher(None, b=wanted)

    def at_most(line: str) -> float:
        compare.set_seq1(line)
        return compare.quick_ratio()

    likely = heapq.nlargest(20, sorted(set(bare.values())), at_most)
    alike = set(difflib.get_close_matches(wanted, likely, 3, cutoff=0.5))
    shown = [f"{number}: {lines[number - 1].rstrip()[:LINE]}" for number, line in bare.items() if line in alike]
    if not shown:
        return "No line is like it: read the file first."
    return "Nearest lines, with their white space:\n" + "\n".join(shown[:3])


def _search(folder: ProjectFolder, text: str, pattern: str, *, regex: bool) -> str:
    if regex and (why := regex_search.fault(text)):
        raise ToolFailed(f"{text[:LINE]!r} is no regular expression: {why}.")
    notes: list[str] = []
    places = list(_searchable(folder, pattern, notes))
    if not places:
        return _with_notes(_none(pattern, [entry.path for entry in folder.entries()]), notes)
    lines = [regex_search.with_feeds(line, text) for _, _, line in places]
    if regex:
        try:
            found = regex_search.search(text, lines, limit=MATCHES + 1)
        except bounded.NoAnswer as error:
            raise ToolFailed(f"The search was stopped: {error}. Use a simpler expression, or fewer files.") from error
    else:
        all_found = ((index, line.find(text)) for index, line in enumerate(lines) if text in line)
        found = list(itertools.islice(all_found, MATCHES + 1))
    if not found:
        return _with_notes("No line contains it.", notes)
    notes += _more(len(found), MATCHES, "lines; search for something rarer")
    shown = ((*places[index], at) for index, at in found[:MATCHES])
    return _with_notes("\n".join(f"{path}:{number}: {_around(line, at)}" for path, number, line, at in shown), notes)


def _around(line: str, at: int) -> str:
    """Return a line without the white space at its ends; of a long one what stands around a place."""
    bare = line.strip()
    begin = max(min(at - (len(line) - len(line.lstrip())) - LINE // 2, len(bare) - LINE), 0)
    end = begin + LINE
    return f"{'…' if begin else ''}{bare[begin:end]}{'…' if end < len(bare) else ''}"


def _searchable(folder: ProjectFolder, pattern: str, notes: list[str]) -> Iterator[tuple[str, int, str]]:
    """Yield path, number and text of each line; add to `notes` what was not searched."""
    means = file_names.pattern(pattern)
    left = SEARCHED
    skipped = []
    for entry in folder.entries():
        if not means(entry.path):
            continue
        if entry.bytes > min(SEARCHED_FILE, left):
            skipped.append(entry.path)
            continue
        data = folder.read(entry.path, SEARCHED_FILE)
        left -= len(data)
        try:
            text, _ = plain_text.decode(data)
        except ValueError:
            skipped.append(entry.path)
            continue
        for number, line in enumerate(_lines(text), 1):
            yield entry.path, number, line
    if skipped:
        more = f" and {len(skipped) - 10} more" if len(skipped) > 10 else ""  # noqa: PLR2004 - a line of names
        notes.append(f"not searched, since no text or too big: {', '.join(skipped[:10])}{more}")


def _none(pattern: str, paths: list[str]) -> str:
    if not paths:
        return "The project has no files yet."
    more = f" and {len(paths) - 20} more" if len(paths) > 20 else ""  # noqa: PLR2004 - a line of names
    return f"No file is meant by {pattern[:LINE]!r}. There are: {', '.join(paths[:20])}{more}."


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:  # JSON can spell half of a character
        raise ToolFailed(f"The text holds half of a surrogate pair (character {error.start}).") from error


def _lines(text: str) -> list[str]:
    """Split after each line feed; elsewhere only what is too long to be shown at once."""
    *ended, rest = text.split("\n")
    lines = [f"{line}\n" for line in ended] + ([rest] if rest else [])
    return [part for line in lines for part in ([line] if _bytes(line) <= SHOWN else _parts(line))]


def _parts(line: str) -> list[str]:
    size = SHOWN // 4  # characters have four bytes at most
    return [line[begin : begin + size] for begin in range(0, len(line), size)]


def _bytes(text: str) -> int:
    return len(text.encode(errors="replace"))


def _more(count: int, limit: int, what: str) -> list[str]:
    return [f"more than {limit} {what}"] if count > limit else []


def _with_notes(text: str, notes: list[str]) -> str:
    return "\n".join([text.removesuffix("\n") if notes else text, *(f"[{note}]" for note in notes)])
