"""Finding what a name names, and what one is told when it is not there."""

import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_type_hints

import pytest

from bus.errors import NotFound
from bus.lookup import load
from bus.transports import TRANSPORTS

TABLE = {"od": "collections:OrderedDict", "counter": "collections:Counter", "broken": "collections:Missing"}


def write(path: Path, source: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    return path


def test_a_short_name_gives_what_its_table_says() -> None:
    import collections  # noqa: PLC0415

    assert load("counter", TABLE) is collections.Counter


def test_a_module_and_a_name_need_no_table() -> None:
    assert load("bus.errors:NotFound", {}) is NotFound


@pytest.mark.parametrize("name", TRANSPORTS)
def test_every_transport_of_the_table_is_there(name: str) -> None:
    assert isinstance(load(name, TRANSPORTS), type)


def test_naming_a_table_imports_nothing() -> None:
    code = "import sys, bus.transports, bus.lookup; print('bus.transports.memory' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert done.stdout == "False\n"


def test_an_unknown_name_names_the_nearest_and_all_known() -> None:
    with pytest.raises(
        NotFound, match=r"'conter' is unknown \(known: broken, counter, od\)\. Did you mean 'counter'\?"
    ):
        load("conter", TABLE)


def test_with_nothing_near_nothing_is_suggested() -> None:
    with pytest.raises(NotFound) as caught:
        load("zebra", TABLE)
    assert "Did you mean" not in str(caught.value)
    with pytest.raises(NotFound, match=r"known: none\)"):
        load("zebra", {})


@pytest.mark.parametrize("name", ["editor.py", "./editor.py", "roles/editor"])
def test_a_file_without_a_name_in_it_is_told_how_to_say_it(name: str) -> None:
    with pytest.raises(NotFound, match=re.escape(f"write '{name}:Name'")):
        load(name, TABLE)


@pytest.mark.parametrize("name", [":", "collections:", ":Counter"])
def test_half_a_name_is_told_the_whole_form(name: str) -> None:
    with pytest.raises(NotFound, match="cut short"):
        load(name, TABLE)


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(NotFound, match=r"no module 'no_such_package\.roles'"):
        load("no_such_package.roles:Editor", {})


def test_a_missing_attribute_lists_the_public_ones(tmp_path: Path) -> None:
    write(tmp_path / "roles.py", "import os\n_hidden = 1\nclass Editor: ...\nclass Author: ...\n")
    with pytest.raises(NotFound, match=r"has no 'Editr' \(it has: Author, Editor\)\. Did you mean 'Editor'\?"):
        load("roles.py:Editr", {}, tmp_path)


@pytest.mark.parametrize("name", ["editor.py:Editor", "./editor.py:Editor", "below/../editor.py:Editor"])
def test_a_file_is_found_from_its_base(tmp_path: Path, name: str) -> None:
    (tmp_path / "below").mkdir()
    write(tmp_path / "editor.py", "class Editor:\n    kind = 'file'\n")
    editor = load(name, {}, tmp_path)
    assert isinstance(editor, type)
    assert vars(editor)["kind"] == "file"


def test_without_a_base_a_file_is_found_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "editor.py", "x = 7\n")
    monkeypatch.chdir(tmp_path)
    assert load("editor.py:x", {}) == 7
    assert load(f"{tmp_path}/editor.py:x", {}, Path("/")) == 7


def test_a_file_that_is_not_there_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=re.escape(f"'./editor.py' cannot be read at '{tmp_path}/editor.py'")):
        load("./editor.py:Editor", {}, tmp_path)
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(NotFound, match="cannot be read"):
        load("folder.py:Editor", {}, tmp_path)


def test_only_a_file_whose_own_name_is_that_of_python_source_is_loaded(tmp_path: Path) -> None:
    source = write(tmp_path / "files" / "e9" / "15462f", "raise RuntimeError('it was run')\n")
    (tmp_path / "role.py").symlink_to(source)
    for name in ("files/e9/15462f:Role", "./role.py:Role"):
        with pytest.raises(NotFound, match=r"is no Python file: the name of .*15462f' does not end in \.py"):
            load(name, {}, tmp_path)


def test_nothing_is_loaded_from_a_closed_folder_wherever_a_link_to_it_lies(tmp_path: Path) -> None:
    source = write(tmp_path / "home" / "work" / "role.py", "raise RuntimeError('it was run')\n")
    (tmp_path / "role.py").symlink_to(source)
    for name in ("home/work/role.py:Role", f"{source}:Role", "home/work/../work/role.py:Role", "role.py:Role"):
        with pytest.raises(NotFound, match="is not loaded"):
            load(name, {}, tmp_path, closed=[tmp_path / "home" / "files", tmp_path / "home" / "work"])
    write(tmp_path / "home" / "role.py", "Role = 1\n")
    assert load("home/role.py:Role", {}, tmp_path, closed=[tmp_path / "home" / "work"]) == 1


def test_files_of_the_same_name_do_not_meet(tmp_path: Path) -> None:
    for place in ("a", "b"):
        write(tmp_path / place / "role.py", "class Role: ...\n")
    first, second = (load("role.py:Role", {}, tmp_path / place) for place in ("a", "b"))
    assert first is not second
    assert getattr(first, "__module__", None) != getattr(second, "__module__", None)


def test_a_file_is_loaded_once_however_it_is_named(tmp_path: Path) -> None:
    write(tmp_path / "below" / "role.py", "class Role: ...\n")
    assert load("below/role.py:Role", {}, tmp_path) is load("./role.py:Role", {}, tmp_path / "below")


def test_an_edited_file_is_loaded_anew_and_the_old_one_stays_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "role.py", "class Role:\n    version = 1\n")
    before = load("role.py:Role", {}, tmp_path)
    path.write_text("class Role:\n    version = 2\n")  # same size, same second: no cached bytecode may answer
    after = load("role.py:Role", {}, tmp_path)
    assert (getattr(before, "version", 0), getattr(after, "version", 0)) == (1, 2)
    assert pickle.loads(pickle.dumps(before)) is before
    assert not (tmp_path / "__pycache__").exists()


def test_what_a_file_defines_can_be_pickled_and_its_hints_resolved(tmp_path: Path) -> None:
    source = """
from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Node:
    below: Node | None = None
"""
    write(tmp_path / "my-tree.v2.py", source)
    node = load("my-tree.v2.py:Node", {}, tmp_path)
    assert isinstance(node, type)
    assert get_type_hints(node) == {"below": node | None}
    assert pickle.loads(pickle.dumps(node(node()))) == node(node())


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("1 / 0\n", ZeroDivisionError),
        ("def\n", SyntaxError),
        ("import no_such_dependency\n", ModuleNotFoundError),
        ("raise SystemExit(3)\n", SystemExit),
    ],
)
def test_an_error_on_import_is_the_cause_and_leaves_nothing_behind(
    tmp_path: Path, source: str, cause: type[BaseException]
) -> None:
    path = write(tmp_path / "bad.py", source)
    before = set(sys.modules)
    with pytest.raises(NotFound, match=f"bad.py' raised {cause.__name__} when imported") as caught:
        load("bad.py:Role", {}, tmp_path)
    assert type(caught.value.__cause__) is cause
    assert not [name for name in set(sys.modules) - before if name.startswith("bad_")]
    path.write_text("Role = 1\n")
    assert load("bad.py:Role", {}, tmp_path) == 1


def test_an_error_on_import_names_the_line_of_the_file_that_raised_it(tmp_path: Path) -> None:
    source = "import json\n\ndef helper():\n    return json.loads('no')\n\nX = helper()\n"
    write(tmp_path / "bad.py", source)
    with pytest.raises(NotFound, match=r"when imported: Expecting value: .* \(bad\.py:4 in helper\)$"):
        load("bad.py:X", {}, tmp_path)


@pytest.mark.parametrize("source", ["import helpers\n", "from helpers.texts import cut\n"])
def test_a_module_that_lies_beside_a_file_and_is_not_found_is_told_how_to_be(tmp_path: Path, source: str) -> None:
    write(tmp_path / "bad.py", source)
    for place in (tmp_path / "helpers.py", tmp_path / "helpers" / "__init__.py"):
        write(place, "")
        with pytest.raises(NotFound, match=re.escape(f"'helpers' lies beside it: start with PYTHONPATH={tmp_path}")):
            load("bad.py:X", {}, tmp_path)
        place.unlink()
    (tmp_path / "helpers").rmdir()
    with pytest.raises(NotFound) as caught:
        load("bad.py:X", {}, tmp_path)
    assert "PYTHONPATH" not in str(caught.value)


def test_a_file_of_a_package_is_told_to_be_named_as_a_module(tmp_path: Path) -> None:
    write(tmp_path / "pack" / "roles.py", "from .texts import cut\n")
    says = f"name it package.module:Name, and start with PYTHONPATH={tmp_path}"
    with pytest.raises(NotFound, match=re.escape(says)):
        load("pack/roles.py:X", {}, tmp_path)


def test_a_module_that_misses_a_dependency_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "lookup_case.py", "import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NotFound, match=r"'lookup_case' raised ModuleNotFoundError when imported: .*no_such_dependency"):
        load("lookup_case:Role", {})


def test_a_file_that_several_threads_want_at_once_is_loaded_once(tmp_path: Path) -> None:
    write(tmp_path / "heavy.py", "import time\ntime.sleep(0.1)\nmade = object()\n")
    with ThreadPoolExecutor(4) as threads:
        found = [*threads.map(lambda _: load("heavy.py:made", {}, tmp_path), range(4))]
    assert len(set(found)) == 1


def test_ctrl_c_during_an_import_passes_through(tmp_path: Path) -> None:
    write(tmp_path / "slow.py", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load("slow.py:Role", {}, tmp_path)
    assert not [name for name in sys.modules if name.startswith("slow_")]


def test_a_traceback_shows_the_files_own_line(tmp_path: Path) -> None:
    write(tmp_path / "role.py", "def fail():\n    raise KeyError('here')\n")
    fail = load("role.py:fail", {}, tmp_path)
    assert callable(fail)
    with pytest.raises(KeyError, match="here") as caught:
        fail()
    assert caught.traceback[-1].path == tmp_path / "role.py"
    assert caught.traceback[-1].lineno == 1
