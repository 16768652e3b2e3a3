import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.errors import ToolRefused
from agents.files import names as file_names

REFUSED = {
    "/etc/passwd": "absolute",
    "../secret": "leads out",
    "a/../../secret": "leads out",
    "..": "leads out",
    "a\0b": "control character",
    "a\nb": "control character",
    "a\x1b[31m": "control character",
    "photo\u202egpj.exe": "invisible",
    "a\u2066b": "invisible",
    "a\u200fb": "invisible",
    "a\u2028b": "line separator",
    "a\udc80b": "not UTF-8",
    "a" * 256: "longer than 255",
    "ä" * 128: "longer than 255",
    "/".join(["a" * 200] * 21): "longer than 4096",
    "a\\b": "separated by '/'",
    "a:b": "separated by '/'",
    "C:/x": "separated by '/'",
    "con": "device",
    "src/NUL.txt": "device",
    "com1.tar.gz": "device",
    "LPT¹": "device",
    "a.": "ends in a dot",
    "a /b": "ends in a dot or a space",
}


@pytest.mark.parametrize(("path", "why"), REFUSED.items(), ids=range(len(REFUSED)))
def test_a_name_that_not_every_system_can_take_is_refused_with_the_reason(path: str, why: str) -> None:
    with pytest.raises(ToolRefused, match=why) as refused:
        file_names.parts_of(path)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 2_000


@pytest.mark.parametrize(
    "path", ["a" * 255, "console.py", "nullable", ".env.example", "ü/日本.txt", "a b", "👩\u200d🚀"]
)
def test_an_unusual_but_harmless_name_is_taken(path: str) -> None:
    assert "/".join(file_names.parts_of(path)) == unicodedata.normalize("NFC", path)


def test_a_path_is_made_plain() -> None:
    assert file_names.parts_of("./a//b/./c.txt") == ("a", "b", "c.txt")
    assert file_names.parts_of("cafe\u0301") == ("caf\u00e9",)
    assert file_names.parts_of("") == file_names.parts_of(".") == ()


def test_the_path_as_the_sandbox_shows_it_is_refused_with_the_path_to_use() -> None:
    with pytest.raises(ToolRefused, match=r"Perhaps 'src/a\.py'"):
        file_names.parts_of("/project/src/a.py")


@given(st.text(st.characters(), max_size=40))
def test_a_path_that_is_taken_stays_beneath_and_means_itself(path: str) -> None:
    try:
        parts = file_names.parts_of(path)
    except ToolRefused:
        return
    assert not {"", ".", ".."} & set(parts)
    assert not any("/" in part or "\0" in part for part in parts)
    if parts:
        assert file_names.parts_of("/".join(parts)) == parts


def test_names_that_some_systems_take_for_one_clash() -> None:
    assert file_names.clash("readme.md", ["a", "README.md"]) == "README.md"
    assert file_names.clash("STRASSE", ["straße"]) == "straße"
    assert file_names.clash("cafe\u0301", ["caf\u00e9"]) == "caf\u00e9"
    assert file_names.clash("a", ["a", "b"]) is None


@pytest.mark.parametrize(
    ("path", "in_the_way"),
    [
        ("readme.md", "README.md"),
        ("SRC/b.py", "src/a.py"),
        ("src/A.py", "src/a.py"),
        ("src", "src/a.py"),
        ("Src", "src/a.py"),
        ("README.md/notes", "README.md"),
        ("readme.md/notes", "README.md"),
        ("src/a.py", None),
        ("src/b.py", None),
        ("src2", None),
        ("src/README.md", None),
    ],
)
def test_a_file_lies_beside_others_where_no_name_on_its_way_is_another_files(path: str, in_the_way: str | None) -> None:
    there = file_names.SideBySide(["README.md", "src/a.py"])
    assert there.in_the_way(path) == in_the_way


def test_a_file_that_is_added_may_be_in_the_way_of_the_next() -> None:
    there = file_names.SideBySide(["a.txt"])
    assert there.add(["config", "config/settings.ini", "b.txt"]) == {"config/settings.ini": "config"}
    assert there.in_the_way("B.txt") == "b.txt"


@pytest.mark.parametrize(
    "path", ["__pycache__/a", "a/b.pyc", ".git/hooks/x", "x/.pytest_cache/y", ".mypy_cache/z", ".swarm/log.db"]
)
def test_caches_and_repositories_are_never_kept(path: str) -> None:
    assert file_names.never_kept(path.split("/"))
    assert not file_names.never_kept(["src", "git.py", "swarm", "cache"])


@pytest.mark.parametrize(
    ("glob", "meant", "others"),
    [
        ("**", ["a", "a/b", "a/b/c.py"], []),
        ("*.py", ["a.py", "x/y/a.py"], ["a.pyx", "a.py/b"]),
        ("src/*.py", ["src/a.py"], ["src/x/a.py", "a.py", "x/src/a.py"]),
        ("src/**/*.py", ["src/a.py", "src/x/y/a.py"], ["a.py"]),
        ("**/src/**", ["src/a", "x/src/a/b"], ["x/a"]),
        ("./a/b", ["a/b"], ["b"]),
        ("material/", ["material/a", "material/b/c"], ["a"]),
        ("[ab]?.txt", ["a1.txt"], ["c1.txt", "a.txt"]),
        ("[", ["["], ["a"]),
    ],
)
def test_a_pattern_means_these_files_and_no_others(glob: str, meant: list[str], others: list[str]) -> None:
    means = file_names.pattern(glob)
    assert [path for path in [*meant, *others] if means(path)] == meant


def test_no_pattern_takes_long() -> None:
    begun = time.process_time()
    assert not file_names.pattern("*a" * 500 + "b")("a" * 250)
    assert not file_names.pattern("**/" * 500 + "b")("a/" * 500 + "a")
    assert time.process_time() - begun < 2


def test_the_file_of_that_name_elsewhere_is_the_nearest() -> None:
    known = ["src/report.md", "material/reports.md", "zebra"]
    assert file_names.near("report.md", known) == ["src/report.md", "material/reports.md"]
