"""`run_python` and `run_command`, in a real sandbox."""

import shutil
from pathlib import Path

import pytest

from agents.errors import SandboxUnavailable, ToolFailed, ToolRefused
from agents.files.project_folder import ProjectFolder
from agents.run_program import SHOWN, told
from agents.sandbox import Bounds, Completed, Ended
from agents.sandboxes.bubblewrap import BubblewrapSandbox
from agents.tool import ToolContext
from agents.tools.run_command import run_command
from agents.tools.run_python import run_python
from bus.setup import Permissions


@pytest.fixture
def context(tmp_path: Path) -> ToolContext:
    return ToolContext(ProjectFolder(tmp_path), Permissions(), BubblewrapSandbox(), timeout_s=30)


async def test_a_file_of_the_project_is_run(context: ToolContext) -> None:
    folder = context.folder.root / "tools"
    folder.mkdir()
    (folder / "-sum.py").write_text("import pathlib; print(1 + 2, pathlib.Path.cwd().name)")
    assert await run_python.run({"path": "tools/-sum.py"}, context) == "exit status 0\n3 project\n"


async def test_a_file_and_a_module_are_given_arguments(context: ToolContext) -> None:
    (context.folder.root / "add.py").write_text("import sys; print(sys.argv[1:])")
    assert await run_python.run({"path": "add.py", "args": ["-v", "a b"]}, context) == "exit status 0\n['-v', 'a b']\n"
    assert await run_python.run({"module": "add", "args": ["-v"]}, context) == "exit status 0\n['-v']\n"


async def test_what_a_program_printed_before_it_was_killed_is_told(tmp_path: Path) -> None:
    context = ToolContext(ProjectFolder(tmp_path), Permissions(), BubblewrapSandbox(), timeout_s=2)
    answer = await run_python.run({"code": "import time; print('at the gate'); time.sleep(60)"}, context)
    assert answer == "killed: not done after 2 s\nat the gate\n"


async def test_a_path_is_never_an_option(context: ToolContext) -> None:
    (context.folder.root / "-c").write_text("print('a file')")
    assert await run_python.run({"path": "-c"}, context) == "exit status 0\na file\n"


async def test_a_snippet_imports_from_the_project_and_leaves_no_file_but_what_it_writes(context: ToolContext) -> None:
    (context.folder.root / "pricing.py").write_text("TOTAL = 42")
    answer = await run_python.run({"code": "import pricing\nopen('out', 'w').write(str(pricing.TOTAL))"}, context)
    assert answer == "exit status 0, no output"
    assert sorted(path.name for path in context.folder.root.iterdir()) == ["out", "pricing.py"]


async def test_a_fault_comes_with_its_traceback(context: ToolContext) -> None:
    answer = await run_python.run({"code": "x = 1\nx / 0"}, context)
    assert answer.startswith("exit status 1\nTraceback")
    assert "line 2" in answer
    assert answer.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize("arguments", [{}, {"path": "a.py", "code": "1"}, {"code": "1", "module": "a"}])
async def test_one_of_path_code_and_module_is_wanted(context: ToolContext, arguments: dict[str, str]) -> None:
    with pytest.raises(ToolFailed, match=r"just one of path .* code and module"):
        await run_python.run(arguments, context)


async def test_a_command_is_the_shell_s(context: ToolContext) -> None:
    answer = await run_command.run({"command": "echo one > a && cat a | tr o 0; exit 4"}, context)
    assert answer == "exit status 4\n0ne\n"


async def test_a_command_s_time_is_what_it_asks_for_but_no_more_than_the_context_has(tmp_path: Path) -> None:
    context = ToolContext(ProjectFolder(tmp_path), Permissions(), BubblewrapSandbox(), timeout_s=1)
    answer = await run_command.run({"command": "sleep 60", "timeout_s": 600}, context)
    assert answer == "killed: not done after 1 s, no output"


@pytest.mark.parametrize(("command", "timeout_s"), [("", 60), ("  ", 60), ("true", 0), ("a\0b", 60), ("\ud800", 60)])
async def test_what_is_no_command_is_answered_in_words(context: ToolContext, command: str, timeout_s: int) -> None:
    with pytest.raises(ToolFailed):
        await run_command.run({"command": command, "timeout_s": timeout_s}, context)


async def test_a_command_too_long_for_the_kernel_is_answered_in_words(context: ToolContext) -> None:
    assert await run_command.run({"command": "true #" + "é" * 50_000}, context) == "exit status 0, no output"
    with pytest.raises(ToolFailed, match="write it to a file"):
        await run_command.run({"command": "true #" + "é" * 60_000}, context)


async def test_without_a_sandbox_the_tools_refuse_and_name_the_package(tmp_path: Path) -> None:
    context = ToolContext(ProjectFolder(tmp_path), Permissions())
    with pytest.raises(ToolRefused, match="apt-get install bubblewrap"):
        await run_python.run({"code": "1"}, context)


async def test_with_an_unusable_sandbox_the_tools_refuse_and_pass_on_the_remedy(
    context: ToolContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ToolRefused, match="apt-get install bubblewrap") as caught:
        await run_command.run({"command": "true"}, context)
    assert isinstance(caught.value.__cause__, SandboxUnavailable)


async def test_hosts_for_code_are_refused_by_name(tmp_path: Path) -> None:
    context = ToolContext(ProjectFolder(tmp_path), Permissions(sandbox=("pypi.org",)), BubblewrapSandbox())
    with pytest.raises(ToolRefused, match=r"permissions\.sandbox.*pypi\.org"):
        await run_command.run({"command": "true"}, context)


@pytest.mark.parametrize("ended", list(Ended))
def test_each_way_to_end_is_told_in_one_line(ended: Ended) -> None:
    line, said = told(Completed(137, ended, "said"), 60, Bounds()).split("\n")
    assert said == "said"
    assert line.startswith("exit status 137" if ended is Ended.EXIT else "killed: ")


def test_used_up_processor_time_is_told() -> None:
    assert told(Completed(152, Ended.EXIT, ""), 60, Bounds()).startswith("killed: 30 s of processor time")


def test_a_model_is_shown_the_ends_of_long_output() -> None:
    answer = told(Completed(0, Ended.EXIT, "a" * SHOWN + "b" * SHOWN), 60, Bounds())
    assert f"a\n[{SHOWN} characters left out]\nb" in answer
    assert len(answer) < SHOWN + 100


def test_the_tools_change_the_folder_alone() -> None:
    for made in (run_python, run_command):
        assert (made.effect, made.network, made.needs_approval) == ("folder", False, False)
        assert "context" not in made.schema.parameters["properties"]  # type: ignore[operator]
