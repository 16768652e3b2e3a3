import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from agents import checks
from agents.check import Check, CheckContext, Verdict
from agents.checking import criteria
from agents.checking.criteria import SHOWN
from agents.checks.run import files_named, tail
from agents.errors import BadCriterion, SandboxUnavailable
from agents.files.project_folder import ProjectFolder
from agents.sandbox import OUT_OF_CPU, Bounds, Completed, Ended
from bus.setup import Criterion


class OpenSandbox:
    """Runs the command as it is: the checks are tested here, not the walls."""

    name = "open"

    async def probe(self) -> None:
        return

    async def run(
        self,
        argv: Sequence[str],
        *,
        folder: Path,
        timeout_s: float,
        env: Mapping[str, str] | None = None,
        bounds: Bounds | None = None,
    ) -> Completed:
        del bounds
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        child = await asyncio.create_subprocess_exec(
            *argv,
            cwd=folder,
            env={"PATH": path, "PYTHONDONTWRITEBYTECODE": "1", **(env or {})},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        ended = Ended.EXIT
        reading = asyncio.create_task(child.communicate())
        done, _ = await asyncio.wait([reading], timeout=timeout_s)
        if not done:
            os.killpg(child.pid, signal.SIGKILL)
            ended = Ended.DEADLINE
        output, _ = await reading
        return Completed(child.returncode or 0, ended, output.decode(errors="replace"))


class NoSandbox(OpenSandbox):
    async def run(self, *_: object, **__: object) -> Completed:
        raise SandboxUnavailable("bwrap is not installed.", "apt install bubblewrap")


class BoundSandbox(OpenSandbox):
    """Runs nothing: ends with `status`, and keeps the bounds it was given."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.given: Bounds | None = None

    async def run(self, *_: object, bounds: Bounds | None = None, **__: object) -> Completed:
        self.given = bounds
        return Completed(self.status, Ended.EXIT, "begun\n")


@pytest.fixture
def folder(tmp_path: Path) -> ProjectFolder:
    return ProjectFolder(tmp_path)


async def judge(folder: ProjectFolder, criterion: Criterion, **context: object) -> Verdict:
    return await checks.parse(criterion).judge(CheckContext(folder, **context))  # type: ignore[arg-type]


# What a criterion may say


@pytest.mark.parametrize("key", checks.CHECKS)
def test_each_check_is_found_by_its_key(key: str) -> None:
    check: Check = checks.parse({key: "x"})
    assert check.key == key
    assert check.runs_code == (key == "run")


def test_the_order_of_keys_means_nothing() -> None:
    assert checks.parse({"min_words": 3, "text": "a"}).key == "text"
    assert checks.parse({"schema": "s.json", "json": "a.json"}).key == "json"


@pytest.mark.parametrize(("written", "words"), [(3, 3), ("3", 3), ("1k", 1_000), ("1.5k", 1_500), ("0", 0)])
def test_a_count_may_be_a_text(written: object, words: int) -> None:
    assert criteria.count({"text": "a", "min_words": written}, "min_words") == words  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("criterion", "field", "says"),
    [
        ({}, None, "file, text, json, run, ask"),
        ({"fiel": "a"}, "fiel", "Did you mean 'file'"),
        ({"zzz": "a"}, "zzz", "Known: file, text, json, run, ask"),
        ({"file": "a", "text": "b"}, "text", "two checks"),
        ({"file": "a", "min_words": 3}, "min_words", "unknown in a check of 'file'"),
        ({"text": "a", "min_word": 3}, "min_word", "Did you mean 'min_words'"),
        ({"text": "a", "min_words": "three"}, "min_words", "whole number"),
        ({"text": "a", "min_words": "1.5"}, "min_words", "whole number"),
        ({"text": "a", "min_words": "-3"}, "min_words", "whole number"),
        ({"text": "a", "min_words": "3" * 5_000}, "min_words", "whole number"),
        ({"text": "a", "min_words": "5", "max_words": 4}, "max_words", "no room"),
        ({"text": "a", "min_words": True}, "min_words", "whole number"),
        ({"text": "a", "max_words": None}, "max_words", "whole number"),
        ({"text": "a", "min_words": -1}, "min_words", "whole number"),
        ({"text": "a", "min_words": 5, "max_words": 4}, "max_words", "no room"),
        ({"text": "a", "contains": [1]}, "contains", "list of texts"),
        ({"text": "a", "contains": {"a": 1}}, "contains", "list of texts"),
        ({"text": "a", "contains": [""]}, "contains", "list of texts"),
        ({"text": "a", "contains": ["re:("]}, "contains", "no regular expression"),
        ({"text": "a", "lacks": "re:a{99999999999}"}, "lacks", "no regular expression"),
        ({"text": "a", "lacks": "re:" + "(" * 900}, "lacks", "no regular expression"),
        ({"text": "a", "lacks": "re:"}, "lacks", "empty"),
        ({"text": "a", "lacks": "re:" + "a" * 2_000}, "lacks", "longer than"),
        ({"file": 3}, "file", "should be a text"),
        ({"file": " "}, "file", "should be a text"),
        ({"file": "../a"}, "file", "leads out"),
        ({"file": "."}, "file", "path of a file"),
        ({"file": "a/"}, "file", "path of a file"),
        ({"file": "repo/.git/HEAD"}, "file", "'.git' is never part of a result"),
        ({"json": "a", "schema": ["b"]}, "schema", "should be a text"),
        ({"json": "a", "schema": "/b"}, "schema", "absolute"),
        ({"run": "true", "timeout": 30}, "timeout", "30s, 10m or 2h"),
        ({"run": "true", "timeout": "0s"}, "timeout", "30s, 10m or 2h"),
        ({"run": "true", "timeout": "1 day"}, "timeout", "30s, 10m or 2h"),
        ({"ask": []}, "ask", "should be a text"),
    ],
    ids=str,
)
def test_a_criterion_that_means_nothing_is_refused_with_its_field(
    criterion: Criterion, field: str | None, says: str
) -> None:
    with pytest.raises(BadCriterion, match=r".") as refused:
        checks.parse(criterion)
    assert refused.value.field == field
    assert says in str(refused.value)
    assert len(str(refused.value)) < 1_000


# file


async def test_a_file_is_there_and_not_empty(folder: ProjectFolder) -> None:
    folder.write("report.md", b"12")
    assert await judge(folder, {"file": "./report.md"}) == Verdict(
        "holds", "'report.md' is there (2 bytes).", ("report.md",)
    )
    folder.write("report.md", b"")
    assert (await judge(folder, {"file": "report.md"})).verdict == "fails"


async def test_a_missing_file_fails_and_names_the_near_one(folder: ProjectFolder) -> None:
    folder.write("out/report.md", b"12")
    verdict = await judge(folder, {"file": "report.md"})
    assert verdict.verdict == "fails"
    assert "'out/report.md'" in verdict.shows


async def test_a_link_out_of_the_tree_is_no_file(folder: ProjectFolder) -> None:
    (folder.root / "report.md").symlink_to("/etc/passwd")
    for criterion in ({"file": "report.md"}, {"text": "report.md"}, {"json": "report.md"}):
        verdict = await judge(folder, dict(criterion))
        assert (verdict.verdict, "root:" in verdict.shows) == ("fails", False)


# text


async def test_a_text_with_all_it_should_have_holds(folder: ProjectFolder) -> None:
    folder.write("a", "\ufeffAn offer of 30 EUR\nSources: the material\n".encode())
    criterion = {"text": "a", "min_words": 8, "max_words": 8, "contains": ["Sources", "re:\\d+ EUR$", "re:^An"]}
    assert (await judge(folder, {**criterion, "lacks": ["TODO", "re:\\bUSD\\b"]})).verdict == "holds"


@pytest.mark.parametrize(
    ("needle", "verdict"),
    [("re:^two$", "holds"), ("one\ntwo", "holds"), ("one\r\ntwo", "holds"), ("re:two\\r$", "holds"), ("o\rt", "fails")],
)
async def test_a_line_ends_in_one_way_whatever_the_file_has(folder: ProjectFolder, needle: str, verdict: str) -> None:
    folder.write("a", b"one\r\ntwo\r\n")
    assert (await judge(folder, {"text": "a", "contains": [needle]})).verdict == verdict


async def test_each_fault_of_a_text_is_named_at_once(folder: ProjectFolder) -> None:
    folder.write("a", b"TODO one two")
    criterion = {"text": "a", "min_words": 5, "contains": ["Sources", "re:\\d"], "lacks": "TODO"}
    verdict = await judge(folder, dict(criterion))
    assert verdict.verdict == "fails"
    for part in ("3 words, at least 5", "does not contain 'Sources'", "'re:\\\\d'", "contains 'TODO', which"):
        assert part in verdict.shows
    assert "at most 2" in (await judge(folder, {"text": "a", "max_words": 2})).shows


@pytest.mark.parametrize("data", [b"", b" \n\t ", b"a\xff\xfe"])
async def test_a_blank_text_or_one_of_other_bytes_fails(folder: ProjectFolder, data: bytes) -> None:
    folder.write("a", data)
    assert (await judge(folder, {"text": "a"})).verdict == "fails"


async def test_a_regular_expression_without_end_is_broken_and_blocks_nothing(
    folder: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agents.checking.regex_search.search.__kwdefaults__", {"timeout_s": 0.5})
    folder.write("a", b"a" * 50 + b"b")
    judging = asyncio.create_task(judge(folder, {"text": "a", "contains": "re:(a+)+$"}))
    turns = 0
    while not judging.done():
        await asyncio.wait([judging], timeout=0.01)
        turns += 1
    assert judging.result().verdict == "broken"
    assert "took longer" in judging.result().shows
    assert turns > 10


# json


async def test_a_file_that_fits_its_schema_holds(folder: ProjectFolder) -> None:
    folder.write("p.json", b'{"price": 3}')
    folder.write("p.schema.json", json.dumps({"required": ["price"]}).encode())
    assert (await judge(folder, {"json": "p.json"})).verdict == "holds"
    assert (await judge(folder, {"json": "p.json", "schema": "p.schema.json"})).verdict == "holds"


async def test_a_schema_may_stand_in_the_check(folder: ProjectFolder) -> None:
    folder.write("p.json", b'{"price": 3}')
    assert (await judge(folder, {"json": "p.json", "schema": {"required": ["price"]}})).verdict == "holds"
    verdict = await judge(folder, {"json": "p.json", "schema": {"required": ["cost"]}})
    assert (verdict.verdict, verdict.shows) == ("fails", "'p.json' does not fit its schema: $: \"cost\" is missing.")
    assert (await judge(folder, {"json": "p.json", "schema": False})).verdict == "fails"
    broken = await judge(folder, {"json": "p.json", "schema": {"minumum": 1}})
    assert (broken.verdict, broken.named) == ("broken", ())


async def test_a_file_that_does_not_fit_says_where(folder: ProjectFolder) -> None:
    folder.write("p.json", b'{"prices": [1, "x"]}')
    folder.write("s.json", json.dumps({"properties": {"prices": {"items": {"type": "number"}}}}).encode())
    verdict = await judge(folder, {"json": "p.json", "schema": "s.json"})
    assert verdict.verdict == "fails"
    assert '$.prices[1]: "x" is not of type "number"' in verdict.shows
    assert verdict.named == ("p.json",)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"{'a': 1}", b"NaN", b"\xff", b"[" * 200_000, b"9" * 5_000, b'{"a": Infinity}'], ids=range(8)
)
async def test_what_is_no_json_fails(folder: ProjectFolder, data: bytes) -> None:
    folder.write("p.json", data)
    verdict = await judge(folder, {"json": "p.json"})
    assert verdict.verdict == "fails"
    assert len(verdict.shows) < SHOWN + 100


@pytest.mark.parametrize("schema", [None, b"{", b'{"minumum": 1}', b'{"$ref": "#"}'])
async def test_a_schema_that_cannot_be_used_is_broken(folder: ProjectFolder, schema: bytes | None) -> None:
    folder.write("p.json", b"1")
    if schema is not None:
        folder.write("s.json", schema)
    verdict = await judge(folder, {"json": "p.json", "schema": "s.json"})
    assert verdict.verdict == "broken"
    assert verdict.named in ((), ("s.json",))


# run


async def test_a_command_that_ends_well_holds(folder: ProjectFolder) -> None:
    folder.write("test_a.py", b"import unittest\n\n\nclass A(unittest.TestCase):\n    def test(self):\n        pass\n")
    verdict = await judge(folder, {"run": "python -m unittest -q"}, sandbox=OpenSandbox())
    assert verdict.verdict == "holds"
    assert "ended with status 0" in verdict.shows


async def test_the_environment_of_the_run_reaches_the_command(folder: ProjectFolder) -> None:
    criterion: Criterion = {"run": 'test "$INPUT_COMPANY" = "a brewery"'}
    context = {"sandbox": OpenSandbox(), "env": {"INPUT_COMPANY": "a brewery"}}
    assert (await judge(folder, criterion, **context)).verdict == "holds"
    assert (await judge(folder, criterion, sandbox=OpenSandbox())).verdict == "fails"


async def test_a_traceback_names_the_files_of_the_tree(folder: ProjectFolder) -> None:
    folder.write("src/my sums.py", b"def add(a, b):\n    return a / b\n")
    folder.write(
        "check.py",
        b"import importlib.util as u\nspec = u.spec_from_file_location('m', 'src/my sums.py')\n"
        b"m = u.module_from_spec(spec)\nspec.loader.exec_module(m)\nm.add(1, 0)\n",
    )
    verdict = await judge(folder, {"run": "python check.py"}, sandbox=OpenSandbox())
    assert verdict.verdict == "fails"
    assert verdict.shows.endswith("ZeroDivisionError: division by zero")
    assert verdict.named == ("check.py", "src/my sums.py")


def test_files_are_named_however_a_tool_writes_them() -> None:
    output = "src/a.py:3: error\nFAILED ./tests/b.py::test_x - in (/project/c.py) and /tmp/x/d.py. Not e.py, no f"
    assert files_named(output, ["c.py", "d.py", "e.pyc", "src/a.py", "tests/b.py"], "/tmp/x") == (
        "src/a.py",
        "tests/b.py",
        "c.py",
        "d.py",
    )


async def test_a_test_tool_that_is_not_installed_is_broken_and_says_what_to_do(folder: ProjectFolder) -> None:
    verdict = await judge(folder, {"run": "echo No module named pytest >&2; python -m nose2"}, sandbox=OpenSandbox())
    assert verdict.verdict == "broken"
    assert "'nose2' is not installed" in verdict.shows


async def test_a_module_that_the_code_imports_in_vain_is_a_fault_of_the_code(folder: ProjectFolder) -> None:
    folder.write("a.py", b"import no_such_module_here.part\n")
    verdict = await judge(folder, {"run": "python a.py"}, sandbox=OpenSandbox())
    assert verdict.verdict == "fails"
    assert "no_such_module_here" in verdict.shows


async def test_a_module_that_the_tree_itself_should_have_is_a_fault_of_the_tree(folder: ProjectFolder) -> None:
    folder.write("shop/__init__.py", b"")
    folder.write("lib/tools.py", b"")
    for module in ("shop.prices", "tools", "json.nothing"):
        verdict = await judge(folder, {"run": f"python -c 'import {module}'"}, sandbox=OpenSandbox())
        assert verdict.verdict == "fails", verdict.shows


async def test_a_command_that_is_not_there_is_broken(folder: ProjectFolder) -> None:
    verdict = await judge(folder, {"run": "no-such-command-here --version"}, sandbox=OpenSandbox())
    assert verdict.verdict == "broken"
    assert "'no-such-command-here' is not there" in verdict.shows
    assert (await judge(folder, {"run": "exit 127"}, sandbox=OpenSandbox())).verdict == "fails"


async def test_a_command_that_takes_too_long_fails(folder: ProjectFolder) -> None:
    verdict = await judge(folder, {"run": "echo begun; exec sleep 60", "timeout": "1s"}, sandbox=OpenSandbox())
    assert verdict.verdict == "fails"
    assert verdict.shows == "`echo begun; exec sleep 60` took longer than 1 s.\nbegun"


@pytest.mark.parametrize(("timeout", "cpu_s"), [("2s", 30), ("10m", 600)])
async def test_a_command_may_compute_for_as_long_as_it_may_take(
    folder: ProjectFolder, timeout: str, cpu_s: int
) -> None:
    sandbox = BoundSandbox(0)
    assert (await judge(folder, {"run": "make", "timeout": timeout}, sandbox=sandbox)).verdict == "holds"
    assert sandbox.given == Bounds(cpu_s=cpu_s)


async def test_a_command_that_used_up_its_processor_time_is_told_so(folder: ProjectFolder) -> None:
    verdict = await judge(folder, {"run": "make", "timeout": "1m"}, sandbox=BoundSandbox(OUT_OF_CPU))
    assert verdict == Verdict("fails", "`make` used up its 60 s of processor time.\nbegun")


async def test_without_a_sandbox_nothing_runs_and_nothing_is_rejected(folder: ProjectFolder) -> None:
    criterion: Criterion = {"run": "touch done"}
    assert "swarm doctor sandbox" in (await judge(folder, criterion)).shows
    verdict = await judge(folder, criterion, sandbox=NoSandbox())
    assert verdict == Verdict("broken", "bwrap is not installed. apt install bubblewrap")
    assert folder.entries() == []


async def test_the_end_of_a_long_output_is_shown(folder: ProjectFolder) -> None:
    verdict = await judge(folder, {"run": "seq 100000; exit 3"}, sandbox=OpenSandbox())
    assert verdict.verdict == "fails"
    assert verdict.shows.endswith("\n99999\n100000")
    assert len(verdict.shows) < SHOWN + 500
    assert len(tail("x" * 10_000)) < SHOWN + 100


# ask


async def test_a_question_is_left_to_the_model_of_the_critic(folder: ProjectFolder) -> None:
    check = checks.parse({"ask": "Every price stands in the material."})
    assert getattr(check, "statement", None) == "Every price stands in the material."
    assert (await check.judge(CheckContext(folder))).verdict == "broken"
