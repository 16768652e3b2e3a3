import random
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.core import text_merge
from swarm.core.text_merge import MOST_BYTES, edits, merged

LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"\n"]), max_size=14)
TEXTS = st.tuples(LINES, st.sampled_from([b"", b"a", b"z"])).map(lambda parts: b"".join(parts[0]) + parts[1])


def numbered(**changed: bytes) -> bytes:
    """Return ten lines, some of them changed."""
    return b"".join(changed.get(f"l{number}", b"line %d\n" % number) for number in range(10))


def longest_common(a: list[bytes], b: list[bytes]) -> int:
    """Return how many lines a longest common subsequence has, by the textbook."""
    row = [0] * (len(b) + 1)
    for one in a:
        new = [0]
        for at, other in enumerate(b):
            new.append(row[at] + 1 if one == other else max(row[at + 1], new[-1]))
        row = new
    return row[-1]


@given(LINES, LINES)
def test_edits_make_one_text_the_other_with_the_fewest_changed_lines(base: list[bytes], new: list[bytes]) -> None:
    found = edits(base, new)
    assert found is not None
    assert text_merge._applied(base, found) == b"".join(new)
    assert all(one.end < then.start for one, then in pairwise(found))
    kept = len(base) - sum(edit.end - edit.start for edit in found)
    assert kept == longest_common(base, new)


@given(TEXTS, TEXTS, TEXTS)
def test_a_merge_is_the_same_from_both_sides_and_changes_nothing_that_nobody_changed(
    base: bytes, ours: bytes, theirs: bytes
) -> None:
    assert merged(base, ours, theirs) == merged(base, theirs, ours)
    assert merged(base, ours, base) == merged(base, base, ours) == ours
    assert merged(base, ours, ours) == ours


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git to compare with")
@pytest.mark.parametrize("seed", range(30))
def test_what_merges_cleanly_is_what_git_makes_of_it(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    base = [b"line %d\n" % number for number in range(40)]
    sides = []
    for side in (b"ours", b"theirs"):
        lines = list(base)
        for _ in range(3):
            at = chance.randrange(len(lines))
            lines[at : at + chance.randint(0, 2)] = [side + b" %d\n" % chance.randrange(99)] * chance.randint(0, 2)
        sides.append(b"".join(lines))
    found = merged(b"".join(base), *sides)
    for name, data in zip(("base", "ours", "theirs"), (b"".join(base), *sides), strict=True):
        (tmp_path / name).write_bytes(data)
    command = ["git", "merge-file", "-p", "ours", "base", "theirs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    if isinstance(found, bytes):
        assert (done.returncode, done.stdout) == (0, found)


def test_changes_apart_are_brought_together_and_the_same_change_is_made_once() -> None:
    both = numbered(l1=b"ours\n", l8=b"theirs\n", l5=b"same\n")
    assert merged(numbered(), numbered(l1=b"ours\n", l5=b"same\n"), numbered(l8=b"theirs\n", l5=b"same\n")) == both


@pytest.mark.parametrize(
    ("ours", "theirs", "place"),
    [
        ({"l4": b"x\n"}, {"l4": b"y\n"}, "line 5"),
        ({"l4": b"x\n"}, {"l5": b"y\n"}, "lines 5 to 6"),
        ({"l4": b""}, {"l4": b"y\n"}, "line 5"),
        ({"l9": b"line 9\nours\n"}, {"l9": b"line 9\ntheirs\n"}, "line 11"),
        ({"l3": b"", "l4": b"", "l5": b""}, {"l4": b"y\n"}, "lines 4 to 6"),
    ],
)
def test_changes_that_touch_clash_and_the_place_is_told(
    ours: dict[str, bytes], theirs: dict[str, bytes], place: str
) -> None:
    assert merged(numbered(), numbered(**ours), numbered(**theirs)) == f"both changed it at {place}"


def test_line_ends_and_a_missing_last_one_stay_as_each_side_has_them() -> None:
    windows = numbered().replace(b"\n", b"\r\n")
    ours, theirs = windows.replace(b"line 1\r", b"ours\r"), windows.replace(b"line 8\r", b"theirs\r")
    assert merged(windows, ours, theirs) == ours.replace(b"line 8\r", b"theirs\r")
    bare = numbered().rstrip(b"\n")
    assert merged(bare, bare.replace(b"line 1", b"ours"), bare + b"\nmore") == bare.replace(b"line 1", b"ours") + (
        b"\nmore"
    )
    assert merged(numbered(), bare, numbered(l1=b"theirs\n")) == numbered(l1=b"theirs\n").rstrip(b"\n")
    assert isinstance(merged(bare, bare + b"\nours", bare + b"\ntheirs"), str)


def test_other_line_ends_everywhere_and_another_line_clash() -> None:
    """Nobody can tell which line ends the file is to have."""
    assert merged(numbered(), numbered().replace(b"\n", b"\r\n"), numbered(l4=b"theirs\n")) == (
        "both changed it at lines 1 to 10"
    )


def test_what_is_not_utf_8_is_merged_by_its_bytes_but_never_with_utf_8() -> None:
    latin = numbered(l0="größe\n".encode("latin-1"))
    assert merged(latin, latin + b"ours\n", latin.replace(b"line 3", "länge".encode("latin-1"))) == (
        latin.replace(b"line 3", "länge".encode("latin-1")) + b"ours\n"
    )
    utf8 = latin.replace("größe".encode("latin-1"), "größe".encode())
    assert merged(latin, utf8, latin + b"theirs\n") == "the versions have different encodings"


@pytest.mark.parametrize("data", [b"PNG\0\n", "text\n".encode("utf-16")])
def test_what_is_no_text_clashes(data: bytes) -> None:
    assert merged(data, data + b"1", b"2" + data) == "it is no text"


def test_what_is_too_large_or_too_different_clashes_at_bounded_cost() -> None:
    large = b"x" * 80 + b"\n"
    large *= MOST_BYTES // len(large) + 1
    assert merged(large, large + b"1\n", b"2\n" + large) == "it is larger than 1 MiB"
    one = b"".join(b"%d\n" % (number * 7919 % 10_007) for number in range(10_007))
    other = b"".join(b"%d\n" % (number * 4999 % 10_007) for number in range(10_007))
    assert merged(one, other, b"2\n" + one) == "the versions differ too much to be compared line by line"


def test_many_equal_lines_cost_no_more_than_others() -> None:
    same = b"\n" * 1_000_000
    assert merged(same, same + b"ours\n", b"theirs\n" + same) == b"theirs\n" + same + b"ours\n"
