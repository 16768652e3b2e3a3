import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.conversation.fitting import OUTPUT_CAP, cut_middle
from agents.errors import ToolFailed, ToolRefused
from agents.files.project_folder import ProjectFolder
from agents.tool import Tool, ToolContext
from agents.tools import TOOLS
from agents.tools.project_files import SHOWN, edit_file, list_files, read_file, search_files, write_file
from bus.setup import Permissions


@pytest.fixture
def context(tmp_path: Path) -> ToolContext:
    return ToolContext(ProjectFolder(tmp_path), Permissions())


async def run(tool: Tool, context: ToolContext, **arguments: Any) -> str:
    return await tool.run(arguments, context)


def test_the_table_names_each_tool_as_it_names_itself() -> None:
    for tool in (read_file, write_file, edit_file, list_files, search_files):
        assert TOOLS[tool.name] == f"agents.tools.project_files:{tool.name}"
        assert (tool.network, tool.needs_approval) == (False, False)
        assert tool.effect == ("folder" if tool in (write_file, edit_file) else "reads")
        assert len(tool.description) < 200


async def test_every_tool_refuses_a_path_out_of_the_folder(context: ToolContext) -> None:
    (context.folder.root / "link").symlink_to("/etc")
    for path in ("/etc/passwd", "../x", "link/passwd"):
        for tool, more in ((read_file, {}), (write_file, {"content": "x"}), (edit_file, {"old": "a", "new": "b"})):
            with pytest.raises(ToolRefused):
                await run(tool, context, path=path, **more)


# read_file


async def test_a_file_is_read_as_it_is(context: ToolContext) -> None:
    context.folder.write("a", "één\n  zwei\r\nthree".encode())
    assert await run(read_file, context, path="a") == "één\n  zwei\r\nthree"
    context.folder.write("a", b"")
    assert await run(read_file, context, path="a") == "[the file is empty]"


async def test_some_lines_are_read_and_said_to_be_some(context: ToolContext) -> None:
    context.folder.write("a", b"1\n2\n3\n4\n")
    assert await run(read_file, context, path="a", first_line=2, lines=2) == "2\n3\n[lines 2 to 3 of 4]"
    assert await run(read_file, context, path="a", first_line=4) == "4\n[lines 4 to 4 of 4]"
    assert await run(read_file, context, path="a", lines=9) == "1\n2\n3\n4\n"
    with pytest.raises(ToolFailed, match=r"has 4 lines; there is no line 5"):
        await run(read_file, context, path="a", first_line=5)
    with pytest.raises(ToolFailed, match="'first_line'"):
        await run(read_file, context, path="a", first_line=0)


async def test_a_long_file_is_shown_in_parts_that_say_how_to_go_on(context: ToolContext) -> None:
    whole = "".join(f"line {number} of café\n" for number in range(5_000))
    context.folder.write("a", whole.encode())
    seen, first = "", 1
    while True:
        text = await run(read_file, context, path="a", first_line=first)
        assert len(text.encode()) <= OUTPUT_CAP, "else its middle is cut out"
        shown, _, note = text.rpartition("[go on with first_line=")
        if not note or not shown:
            seen += text.partition("[lines")[0]
            break
        seen += shown.partition("[lines")[0]
        first = int(note.removesuffix("]"))
    assert seen == whole


async def test_a_line_that_is_too_long_to_be_shown_counts_as_several(context: ToolContext) -> None:
    line = "ä" * SHOWN
    context.folder.write("a", f"{line}\nnext\n".encode())
    seen, first, text = "", 1, "[go on"
    while "[go on" in text:
        text = await run(read_file, context, path="a", first_line=first)
        shown, _, note = text.rpartition("\n[lines ")
        seen, first = seen + shown, int(note.split()[2]) + 1
    assert seen == f"{line}\nnext"


@pytest.mark.parametrize("letter", ["x", "ä", "語"])
async def test_what_is_read_at_once_is_kept_whole(context: ToolContext, letter: str) -> None:
    context.folder.write("a", f"{letter * 50}\n".encode() * 2_000)
    text = await run(read_file, context, path="a")
    assert cut_middle(text, OUTPUT_CAP) == text
    assert len(text.encode()) > OUTPUT_CAP - 2_000


async def test_a_model_with_a_small_window_reads_as_much_at_once_as_it_is_shown(context: ToolContext) -> None:
    context.folder.write("a", b"12345678\n" * 1_000)
    context = replace(context, shown=1_500)
    text = await run(read_file, context, path="a")
    assert text.endswith("\n[lines 1 to 124 of 1000]\n[go on with first_line=125]")
    assert len(text) <= 1_500
    context.folder.write("a", b"x" * 2_000 + b"\ny\n")
    text = await run(read_file, context, path="a")
    assert text.endswith("xx\n[lines 1 to 1 of 2]\n[go on with first_line=2]"), "of a line all is told"


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"Stra\xdfe; 5 \x80", "Straße; 5 €\n[it is not UTF-8, and was read as Windows-1252]"),
        ("Straße".encode("utf-16"), "Straße\n[it is UTF-16]"),
        ("Straße\x1e\x08".encode(), "Straße\x1e\x08"),
        (
            "Straße \xff".encode()[:-1],
            "Straße \ufffd\n[bytes that are not UTF-8 are shown as \ufffd, the first is byte 8]",
        ),
    ],
)
async def test_a_text_that_is_not_utf_8_is_read_and_searched(context: ToolContext, data: bytes, shown: str) -> None:
    context.folder.write("a", data)
    assert await run(read_file, context, path="a") == shown
    assert await run(search_files, context, text="Straße") == f"a:1: {shown.partition(chr(10))[0]}"


@pytest.mark.parametrize("data", [b"%PDF-1.4\nstream\nx\x9c\x01", b"os\0"])
async def test_what_is_no_text_is_not_read(context: ToolContext, data: bytes) -> None:
    context.folder.write("a", data)
    with pytest.raises(ToolFailed, match=r"'a' cannot be read: it is no text\."):
        await run(read_file, context, path="a")


# write_file, edit_file


async def test_a_file_is_written_with_its_folders(context: ToolContext) -> None:
    assert await run(write_file, context, path="src/a.py", content="x = 1\ny = 2\n") == (
        "Wrote 'src/a.py': 2 lines, 12 bytes."
    )
    assert context.folder.read("src/a.py") == b"x = 1\ny = 2\n"
    with pytest.raises(ToolFailed, match="surrogate"):
        await run(write_file, context, path="b", content="\ud800")


async def test_the_one_place_is_replaced_and_nothing_else(context: ToolContext) -> None:
    context.folder.write("a", b"one\ntwo\nthree\n")
    assert await run(edit_file, context, path="a", old="two\n", new="2\n2\n") == (
        "Changed 'a' from line 2: 1 lines became 2."
    )
    assert context.folder.read("a") == b"one\n2\n2\nthree\n"


@given(st.text("ab\n", max_size=12), st.text("ab\n", min_size=1, max_size=4), st.text("ab\n", max_size=3))
def test_an_edit_is_made_only_where_the_text_occurs_once(
    tmp_path_factory: pytest.TempPathFactory, text: str, old: str, new: str
) -> None:
    folder = ProjectFolder(tmp_path_factory.mktemp("edit"))
    folder.write("edited", text.encode())
    places = [begin for begin in range(len(text)) if text.startswith(old, begin)]
    editing = run(edit_file, ToolContext(folder, Permissions()), path="edited", old=old, new=new)
    if len(places) == 1 and old != new:
        asyncio.run(editing)
        assert folder.read_text("edited") == text[: places[0]] + new + text[places[0] + len(old) :]
    else:
        with pytest.raises(ToolFailed):
            asyncio.run(editing)
        assert folder.read_text("edited") == text


async def test_an_edit_that_fits_several_places_names_their_lines(context: ToolContext) -> None:
    context.folder.write("a", b"x\ny\nx\n")
    with pytest.raises(ToolFailed, match=r"occurs 2 times in 'a'.* in the lines 1, 3"):
        await run(edit_file, context, path="a", old="x", new="z")


async def test_an_edit_that_fits_nowhere_shows_the_nearest_lines(context: ToolContext) -> None:
    context.folder.write("a", b"def add(a, b):\n\treturn a+b\n")
    with pytest.raises(ToolFailed, match=r"occurs 0 times") as failed:
        await run(edit_file, context, path="a", old="    return a + b\n", new="z")
    assert str(failed.value).endswith("with their white space:\n2: \treturn a+b")
    with pytest.raises(ToolFailed, match="read the file first"):
        await run(edit_file, context, path="a", old="zzzzzzzz", new="z")


async def test_finding_the_nearest_lines_takes_bounded_time(context: ToolContext) -> None:
    lines = (f"abcdefgh{number:06}" * 20 for number in range(50_000))
    context.folder.write("a", "\n".join(lines).encode()[: 15 << 20])
    begun = time.process_time()
    with pytest.raises(ToolFailed, match="0 times"):
        await run(edit_file, context, path="a", old="hgfedcba0000x" * 20, new="z")
    assert time.process_time() - begun < 3


@pytest.mark.parametrize(
    ("before", "old", "new", "after"),
    [
        (b"one\r\ntwo\r\nthree\r\n", "one\ntwo\n", "1\n2\n", b"1\r\n2\r\nthree\r\n"),
        (b"one\r\ntwo", "two", "2\n3", b"one\r\n2\r\n3"),
        (b"one\ntwo\nthree\r\n", "one\ntwo\n", "1\n2\n", b"1\n2\nthree\r\n"),
        (b"one\ntwo\r\nthree\r\nfour", "one\ntwo\nthree", "1\n2\r\n3", b"1\n2\r\n3\r\nfour"),
        (b"one\ntwo\r\nthree\r\n", "two\nthree", "2\n3", b"one\n2\r\n3\r\n"),
        (b"one\r\ntwo\nthree", "e\ntw", "", b"ono\nthree"),
        (b"one\r\ntwo\n", "one\r\n", "1\n", b"1\ntwo\n"),
    ],
)
async def test_an_edit_keeps_the_line_ends_of_the_place(
    context: ToolContext, before: bytes, old: str, new: str, after: bytes
) -> None:
    context.folder.write("a", before)
    await run(edit_file, context, path="a", old=old, new=new)
    assert context.folder.read("a") == after


async def test_places_that_differ_in_their_line_ends_alone_are_several(context: ToolContext) -> None:
    context.folder.write("a", b"one\r\ntwo\r\none\ntwo\n")
    with pytest.raises(ToolFailed, match=r"occurs 2 times .* lines 1, 3"):
        await run(edit_file, context, path="a", old="one\ntwo", new="x")


@pytest.mark.parametrize(
    ("old", "new", "says"), [("", "x", "'old' is empty"), ("a", "a", "are the same"), ("b", "x", "no UTF-8 text")]
)
async def test_an_edit_that_makes_no_sense_changes_nothing(context: ToolContext, old: str, new: str, says: str) -> None:
    context.folder.write("a", b"ab\xff")
    with pytest.raises(ToolFailed, match=says):
        await run(edit_file, context, path="a", old=old, new=new)
    assert context.folder.read("a") == b"ab\xff"


# list_files, search_files


async def test_files_are_listed_by_pattern_with_their_sizes(context: ToolContext) -> None:
    assert await run(list_files, context) == "The project has no files yet."
    for path in ("a.py", "src/b.py", "src/c.md"):
        context.folder.write(path, b"12")
    assert await run(list_files, context) == "a.py (2)\nsrc/b.py (2)\nsrc/c.md (2)"
    assert await run(list_files, context, pattern="*.py") == "a.py (2)\nsrc/b.py (2)"
    assert await run(list_files, context, pattern="src/") == "src/b.py (2)\nsrc/c.md (2)"
    assert await run(list_files, context, pattern="*.txt") == (
        "No file is meant by '*.txt'. There are: a.py, src/b.py, src/c.md."
    )


async def test_what_is_left_out_of_a_list_is_said(context: ToolContext) -> None:
    (context.folder.root / "link").symlink_to("/etc")
    for number in range(501):
        (context.folder.root / f"{number:03}").touch()
    text = await run(list_files, context)
    assert text.count("\n") == 501
    assert text.endswith("[more than 500 files; use a narrower pattern]\n['link' is left out: it is a link.]")


async def test_lines_are_found_by_text_and_by_regular_expression(context: ToolContext) -> None:
    context.folder.write("a.py", b"import os\n\nprint(os.name)\n")
    context.folder.write("b.md", b"os\n")
    assert await run(search_files, context, text="os") == "a.py:1: import os\na.py:3: print(os.name)\nb.md:1: os"
    assert await run(search_files, context, text="(", pattern="*.py") == "a.py:3: print(os.name)"
    assert await run(search_files, context, text=r"^os$|^imp", regex=True) == "a.py:1: import os\nb.md:1: os"
    assert await run(search_files, context, text="OS") == "No line contains it."
    assert "No file is meant by '*.txt'" in await run(search_files, context, text="os", pattern="*.txt")
    with pytest.raises(ToolFailed, match="no regular expression"):
        await run(search_files, context, text="(", regex=True)


async def test_the_end_of_a_line_is_found_whatever_the_file_has(context: ToolContext) -> None:
    context.folder.write("a.c", b"x;\r\ny\r\n")
    assert await run(search_files, context, text=";$", regex=True) == "a.c:1: x;"
    assert await run(search_files, context, text=r"y\r$", regex=True) == "a.c:2: y"


async def test_what_was_not_searched_is_said(context: ToolContext) -> None:
    context.folder.write("image.png", b"os\0")
    context.folder.write("big.txt", b"os" * (1 << 20))
    context.folder.write("a", b"os\n")
    assert await run(search_files, context, text="os") == (
        "a:1: os\n[not searched, since no text or too big: big.txt, image.png]"
    )


@pytest.mark.parametrize("regex", [False, True])
async def test_of_a_long_line_what_was_found_is_shown(context: ToolContext, *, regex: bool) -> None:
    context.folder.write("a", b"  " + b"x" * 400 + b" RESOLVED: 240,000 GBP. " + b"y" * 400)
    text = await run(search_files, context, text="RESOLVED", regex=regex)
    assert text.startswith("a:1: …x")
    assert "RESOLVED: 240,000 GBP. y" in text
    assert text.endswith("y…")
    assert (await run(search_files, context, text="  x", regex=regex)).startswith("a:1: xxx")


async def test_many_and_long_lines_are_bounded(context: ToolContext) -> None:
    context.folder.write("a", b"\n".join([b"x" * 2_000] * 200))
    for regex in (False, True):
        text = await run(search_files, context, text="x", regex=regex)
        assert text.count("\na:") == 99
        assert len(text) < 40_000
        assert text.endswith("[more than 100 lines; search for something rarer]")


async def test_a_regular_expression_without_end_is_stopped_while_the_loop_goes_on(
    context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.checking.regex_search.search.__kwdefaults__", {"timeout_s": 0.5})
    context.folder.write("a", b"a" * 50 + b"b")
    searching = asyncio.create_task(run(search_files, context, text="(a+)+$", regex=True))
    turns = 0
    while not searching.done():
        await asyncio.wait([searching], timeout=0.01)
        turns += 1
    with pytest.raises(ToolFailed, match=r"took longer than 0\.5 s"):
        searching.result()
    assert turns > 10
