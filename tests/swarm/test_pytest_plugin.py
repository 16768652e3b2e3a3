"""The plugin as a user's suite has it: installed by its entry point, in a pytest of its own."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import clean_env, serving
from tests.support.endpoint import Answer, Body, ChatEndpoint
from tests.support.runs import player, results, scenario

pytest_plugins = ["pytester"]

# Pytester forgets what is first imported in an inner pytest: what takes long is imported here, once.
for name in ("agents.models.openai_chat", "genai_prices.data_snapshot", "openai.resources.chat", "swarm.recorded_runs"):
    importlib.import_module(name)

LOOPS = "-o asyncio_mode=auto -o asyncio_default_fixture_loop_scope=function"
TESTS = """\
import swarm
import pytest

def test_both_files_are_made(swarm_run, tmp_path):
    outcome = swarm_run("../hello.json")
    assert outcome.outcome == "accepted", outcome.reason
    assert (tmp_path / "swarm" / "outcome-1" / "one.txt").read_text() == "made by one\\n"
"""


def plan(*names: str) -> list[dict[str, str]]:
    return [{"id": name, "role": "coder", "do": f"TASK {name}: write {name}.txt"} for name in names]


@pytest.fixture
def endpoint(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatEndpoint]:
    """A live model, and a user's project that has a scenario and a test of it."""
    for name in list(os.environ):
        if name.startswith(("OPENAI", "SWARM")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(pytester.path))
    pytester.makeini("[pytest]\nfilterwarnings = error\naddopts = --strict-markers --strict-config\n")
    with serving(responder=player()) as endpoint:
        goal(pytester, endpoint)
        pytester.mkdir("tests")
        suite(pytester, TESTS)
        yield endpoint


def goal(pytester: pytest.Pytester, endpoint: ChatEndpoint, *names: str) -> None:
    written = scenario(endpoint, plan=plan(*(names or ("one", "two"))), accept=[{"file": "one.txt"}])
    (pytester.path / "hello.json").write_text(json.dumps(written))


def suite(pytester: pytest.Pytester, text: str) -> None:
    (pytester.path / "tests" / "test_hello.py").write_text(text)


def run(pytester: pytest.Pytester, *args: str, loops: str = "-p no:asyncio") -> pytest.RunResult:
    return pytester.runpytest_inprocess("-q", *loops.split(), "tests", *args)


def test_a_run_is_recorded_once_and_played_from_then_on(pytester: pytest.Pytester, endpoint: ChatEndpoint) -> None:
    missing = run(pytester)
    missing.assert_outcomes(failed=1)
    missing.stdout.fnmatch_lines(
        [
            "There is no recording */tests/recordings/test_hello/test_both_files_are_made.jsonl.",
            "*pytest tests/test_hello.py::test_both_files_are_made --swarm-record",
        ]
    )
    assert endpoint.count == 0

    run(pytester, "--swarm-record").assert_outcomes(passed=1)
    asked = endpoint.count
    assert asked == 4
    file = pytester.path / "tests/recordings/test_hello/test_both_files_are_made.jsonl"
    assert str(pytester.path) not in file.read_text()

    run(pytester).assert_outcomes(passed=1)
    assert endpoint.count == asked
    assert not (pytester.path / ".swarm").exists()


def test_what_changed_fails_with_the_difference_and_is_recorded_alone(
    pytester: pytest.Pytester, endpoint: ChatEndpoint
) -> None:
    run(pytester, "--swarm-record").assert_outcomes(passed=1)
    goal(pytester, endpoint, "one", "three")
    changed = run(pytester)
    changed.assert_outcomes(failed=1)
    changed.stdout.fnmatch_lines(
        [
            "The run is paused: *no answer to a request of role 'coder'*",
            "+TASK three: write three.txt",
            "*--swarm-record-new",
        ]
    )
    assert "During handling" not in changed.stdout.str(), "the reason alone"
    asked = endpoint.count
    run(pytester, "--swarm-record-new").assert_outcomes(passed=1)
    assert endpoint.count - asked == 2
    run(pytester).assert_outcomes(passed=1)
    assert endpoint.count - asked == 2


def test_tests_share_a_recording_by_its_mark_and_have_their_own_without(
    pytester: pytest.Pytester, endpoint: ChatEndpoint
) -> None:
    suite(
        pytester,
        TESTS
        + """
@pytest.mark.swarm_recording("kept/hello.jsonl")
def test_marked(swarm_run):
    assert swarm_run("../hello.json").outcome == "accepted"

class TestOfAClass:
    @pytest.mark.parametrize("name", ["a/b"])
    def test_here(self, swarm_run, name):
        assert swarm_run("../hello.json").outcome == swarm_run("../hello.json").outcome == "accepted"

    class TestInside:
        def test_here(self, swarm_run):
            assert swarm_run("../hello.json").outcome == "accepted"
""",
    )
    run(pytester, "--swarm-record").assert_outcomes(passed=4)
    tests = pytester.path / "tests"
    assert {str(file.relative_to(tests)) for file in tests.rglob("*.jsonl")} == {
        "kept/hello.jsonl",
        "recordings/test_hello/test_both_files_are_made.jsonl",
        "recordings/test_hello/TestOfAClass.test_here[a-b].jsonl",
        "recordings/test_hello/TestOfAClass.TestInside.test_here.jsonl",
    }
    twice = (tests / "recordings/test_hello/TestOfAClass.test_here[a-b].jsonl").read_bytes()
    assert twice.count(b"GoalSubmitted") == 2
    asked = endpoint.count
    run(pytester).assert_outcomes(passed=4)
    assert endpoint.count == asked


@pytest.mark.parametrize("record", ["--swarm-record", "--swarm-record-new"])
def test_the_runs_of_one_test_are_played_each_as_it_was_recorded(
    pytester: pytest.Pytester, endpoint: ChatEndpoint, record: str
) -> None:
    def numbered(role: str, _subtask: str, body: Body) -> Answer | None:
        if role != "coder" or results(body):
            return None
        return Answer(calls=[("write_file", {"path": "one.txt", "content": f"number {endpoint.count}"})])

    endpoint.responder = player(play=numbered)
    goal(pytester, endpoint, "one")
    suite(
        pytester,
        """
def test_thrice(swarm_run, tmp_path):
    said = []
    for number in (1, 2, 3):
        assert swarm_run("../hello.json").outcome == "accepted"
        said.append((tmp_path / "swarm" / f"outcome-{number}" / "one.txt").read_text())
    assert said == ["number 1", "number 3", "number 5"]
""",
    )
    run(pytester, record).assert_outcomes(passed=1)
    asked = endpoint.count
    for option in ([], ["--swarm-record-new"]):
        run(pytester, *option).assert_outcomes(passed=1)
    assert endpoint.count == asked


@pytest.mark.parametrize("at_once", ["-n0", "-n2"])
def test_what_tests_of_a_session_record_into_one_file_stays_side_by_side(
    pytester: pytest.Pytester, endpoint: ChatEndpoint, at_once: str
) -> None:
    written = scenario(endpoint, plan=plan("one"), accept=[{"file": "one.txt"}])
    suite(
        pytester,
        f"""
import pytest

@pytest.mark.swarm_recording("kept.jsonl")
@pytest.mark.parametrize("who", ["a mill", "a bakery"])
def test_marked(swarm_run, who):
    for number in (1, 2):
        assert swarm_run({written!r} | {{"goal": f"Write one.txt for {{who}}, {{number}}."}}).outcome == "accepted"
""",
    )
    run(pytester, at_once, "--swarm-record").assert_outcomes(passed=2)
    kept = pytester.path / "tests/kept.jsonl"
    assert kept.read_bytes().count(b"GoalSubmitted") == 4
    asked = endpoint.count
    run(pytester).assert_outcomes(passed=2)
    assert endpoint.count == asked
    run(pytester, "--swarm-record", "-k", "mill").assert_outcomes(passed=1)
    assert kept.read_bytes().count(b"GoalSubmitted") == 2, "a session begins the file anew"


@pytest.mark.parametrize("loops", ["-p no:asyncio", LOOPS])
def test_it_works_with_and_without_an_asyncio_plugin(
    pytester: pytest.Pytester, endpoint: ChatEndpoint, loops: str
) -> None:
    waits = """
import asyncio

async def test_before():
    await asyncio.sleep(0)

@pytest.mark.swarm_recording("hello.jsonl")
async def test_inside_of_a_loop(swarm_run):
    loop = asyncio.get_running_loop()
    assert swarm_run("../hello.json").outcome == "accepted"
    await asyncio.sleep(0)
    assert asyncio.get_running_loop() is loop

async def test_after():
    await asyncio.sleep(0)
"""
    with_loop = loops == LOOPS
    suite(pytester, TESTS + waits * with_loop)
    for record in (["--swarm-record"], []):
        run(pytester, *record, loops=loops).assert_outcomes(passed=4 if with_loop else 1)
    assert endpoint.count == (8 if with_loop else 4)


def test_a_mapping_is_a_scenario_and_a_live_model_can_be_named(
    pytester: pytest.Pytester, endpoint: ChatEndpoint
) -> None:
    written = scenario(endpoint, plan=plan("one")) | {"model": "scripted:none.yaml", "accept": [{"file": "one.txt"}]}
    (pytester.path / "tests" / "none.yaml").write_text("[]")
    suite(
        pytester,
        f"""
def test_it(swarm_run):
    assert swarm_run({written!r}, model="lab:test-model").outcome == "accepted"
""",
    )
    for option in (["--swarm-record"], [], ["--swarm-record-new"]):
        run(pytester, *option).assert_outcomes(passed=1)
    assert endpoint.count == 2
    (pytester.path / "tests/recordings/test_hello/test_it.jsonl").unlink()
    run(pytester, "--swarm-record-new").assert_outcomes(passed=1)
    assert endpoint.count == 4


def test_a_run_that_could_not_be_recorded_to_its_end_leaves_the_recording_as_it_was(
    pytester: pytest.Pytester, endpoint: ChatEndpoint
) -> None:
    run(pytester, "--swarm-record").assert_outcomes(passed=1)
    file = pytester.path / "tests/recordings/test_hello/test_both_files_are_made.jsonl"
    before = file.read_bytes()
    endpoint.rule = lambda _: "401"
    failed = run(pytester, "--swarm-record")
    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines(["The run is paused: *Incorrect API key*"])
    assert file.read_bytes() == before


@pytest.mark.usefixtures("endpoint")
def test_a_mark_without_its_file_is_told(pytester: pytest.Pytester) -> None:
    suite(pytester, TESTS.replace("def test", "@pytest.mark.swarm_recording\ndef test"))
    told = run(pytester)
    told.assert_outcomes(errors=1)
    told.stdout.fnmatch_lines(['*write @pytest.mark.swarm_recording("recordings/NAME.jsonl").'])


def test_a_session_that_runs_no_scenario_loads_nothing_of_ours_but_the_plugin(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        """
import sys

def test_it():
    ours = {name for name in sys.modules if name.partition(".")[0] in ("swarm", "agents", "bus")}
    assert ours == {"swarm", "swarm.pytest_plugin"}
    assert not {"pydantic", "aiohttp", "openai", "orjson"} & set(sys.modules)
"""
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:asyncio",
        "-p",
        "no:hypothesispytest",
    ]
    env = clean_env(tmp_path)
    ended = subprocess.run(
        [*command, str(tmp_path)], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
