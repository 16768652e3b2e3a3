"""Two changes of one text brought together line by line, where they leave one another alone. Pure.

Lines are bytes up to a line feed: nothing is decoded, so what both sides left as it was stays as it was, whatever the
encoding and the line ends. What is compared comes from models: the work is bounded whatever they wrote.
"""

from array import array
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import NamedTuple

MOST_BYTES = 1 << 20
"""Larger files are not merged."""
MOST_STEPS = 250_000
"""Steps of one comparison: a fifth of a second, some 700 changed lines. What needs more has little in common."""

_TOO_DIFFERENT = "the versions differ too much to be compared line by line"


class Edit(NamedTuple):
    """Lines `start` to `end` (exclusive) of the base are `lines` now."""

    start: int
    end: int
    lines: tuple[bytes, ...]


def merged(base: bytes, ours: bytes, theirs: bytes) -> bytes | str:
    """Return the base with the changes of both sides, or in words why that cannot be.

    As with `git merge-file`, changes that touch one another clash, unless they are the same.
    """
    if why := _unfit(base, ours, theirs):
        return why
    lines = _lines(base)
    mine, other = edits(lines, _lines(ours)), edits(lines, _lines(theirs))
    if mine is None or other is None:
        return _TOO_DIFFERENT
    both = sorted({*mine, *other}, key=lambda edit: edit[:2])
    for one, then in pairwise(both):  # of one side, edits never touch
        if then.start <= one.end:
            return f"both changed it at {_place(min(one.start, then.start), max(one.end, then.end))}"
    return _applied(lines, both)


def edits(base: Sequence[bytes], new: Sequence[bytes]) -> list[Edit] | None:
    """Return the fewest changed lines that make one text the other, none touching; None past `MOST_STEPS`."""
    head = _same(base, new)
    tail = _same(base[head:][::-1], new[head:][::-1])
    here, there = base[head : len(base) - tail], new[head : len(new) - tail]
    kept = _kept(here, there)
    if kept is None:
        return None
    found, x, y = [], 0, 0
    for at, to in chain(kept, [(len(here), len(there))]):
        if (x, y) != (at, to):
            found.append(Edit(head + x, head + at, tuple(there[y:to])))
        x, y = at + 1, to + 1
    return found


def _unfit(*versions: bytes) -> str | None:
    """Return why these are no texts to be merged."""
    if any(len(data) > MOST_BYTES for data in versions):
        return f"it is larger than {MOST_BYTES >> 20} MiB"
    if any(b"\0" in data for data in versions):
        return "it is no text"
    if len({_is_utf8(data) for data in versions}) > 1:
        return "the versions have different encodings"
    return None


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _lines(data: bytes) -> list[bytes]:
    """Return the lines with their feeds; the last may have none."""
    lines = data.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


def _same(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    """Return how many lines at the beginning are the same."""
    count = 0
    for here, there in zip(one, other, strict=False):
        if here != there:
            break
        count += 1
    return count


def _kept(base: Sequence[bytes], new: Sequence[bytes]) -> list[tuple[int, int]] | None:
    """Return the pairs of lines of a longest common subsequence; None past `MOST_STEPS`.

    E. W. Myers, "An O(ND) Difference Algorithm and Its Variations", 1986. `reach[i]` is how far into the base one gets
    with a number of inserted and deleted lines, i of them deleted.
    """
    numbers: dict[bytes, int] = {}
    a = [numbers.setdefault(line, len(numbers)) for line in base]
    b = [numbers.setdefault(line, len(numbers)) for line in new]
    reach = array("q", [0])
    trace: list[array[int]] = []
    steps = 0
    for changed in range(len(a) + len(b) + 1):
        trace.append(reach)
        reach = array("q")
        for deleted in range(changed + 1):
            began = x = _from(trace[-1], deleted, changed)
            y = x + changed - 2 * deleted
            while x < len(a) and y < len(b) and a[x] == b[y]:
                x, y = x + 1, y + 1
            if x >= len(a) and y >= len(b):
                return _back(trace, len(a), len(b))
            reach.append(x)
            steps += 1 + x - began
        if steps > MOST_STEPS:
            return None
    raise AssertionError("deleting all lines and inserting all makes any text another")


def _from(reach: Sequence[int], deleted: int, changed: int) -> int:
    """Return where in the base one stands after one more changed line."""
    return reach[deleted] if _is_inserted(reach, deleted, changed) else reach[deleted - 1] + 1


def _is_inserted(reach: Sequence[int], deleted: int, changed: int) -> bool:
    """Tell whether the last changed line is better an inserted one than a deleted one."""
    return deleted == 0 or (deleted != changed and reach[deleted - 1] < reach[deleted])


def _back(trace: Sequence[Sequence[int]], x: int, y: int) -> list[tuple[int, int]]:
    """Walk from the end to the beginning and return the lines that were kept, in order."""
    kept = []
    for changed in range(len(trace) - 1, -1, -1):
        deleted = (x - y + changed) // 2
        came = _from(trace[changed], deleted, changed)
        while x > came:
            x, y = x - 1, y - 1
            kept.append((x, y))
        if changed:
            x, y = (x, y - 1) if _is_inserted(trace[changed], deleted, changed) else (x - 1, y)
    return kept[::-1]


def _applied(base: Sequence[bytes], changes: Sequence[Edit]) -> bytes:
    parts: list[bytes] = []
    at = 0
    for edit in changes:
        parts += base[at : edit.start]
        parts += edit.lines
        at = edit.end
    parts += base[at:]
    return b"".join(parts)


def _place(start: int, end: int) -> str:
    """Return lines of the base as people count them."""
    if end <= start + 1:
        return f"line {start + 1}"
    return f"lines {start + 1} to {end}"
