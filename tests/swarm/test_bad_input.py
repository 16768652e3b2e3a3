"""Whatever a person gives: a clear message, the right exit status, and nothing is lost."""

import importlib.util
import json
import os
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from swarm.runs import ownership
from tests.support.command import ANSWERS, SCENARIO, Ended, clean_env, in_this_process, process, serving
from tests.support.endpoint import Answer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "hello.yaml").write_text(SCENARIO, encoding="utf-8")
    (tmp_path / "answers.yaml").write_text(ANSWERS, encoding="utf-8")
    return tmp_path


@pytest.fixture
def swarm(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    return in_this_process(folder, monkeypatch, capsys)


BAD_FILES = {
    "empty": ("", None, "missing"),
    "only a comment": ("# nothing\n", None, "missing"),
    "not YAML": ("goal: [unclosed\n", None, "yaml"),
    "a tab": ("goal: x\nlimits:\n\ttime: 1m\n", None, "yaml"),
    "a list": ("- goal\n", None, "type"),
    "goal is a list": ("goal: [a, b]\n", "goal", "type"),
    "limits is a text": ("goal: x\nlimits: many\n", "limits", "type"),
    "unknown key": ("goal: x\nlimts: {time: 1m}\n", "limts", "unknown_key"),
    "unknown key inside": ("goal: x\nlimits: {tme: 1m}\n", "limits.tme", "unknown_key"),
    "unknown role": ("goal: x\nplan:\n  - {id: a, role: codr, do: x}\n", "plan.0.role", "unknown_name"),
    "unknown tool": ("goal: x\nroles: {coder: {tools: [read_fil]}}\n", "roles.coder.tools.0", "unknown_name"),
    "unknown provider": ("goal: x\nmodel: opnai:gpt-5\n", "model", "unknown_name"),
    "a cycle": (
        "goal: x\nplan:\n  - {id: a, role: coder, do: x, needs: [b]}\n  - {id: b, role: coder, do: y, needs: [a]}\n",
        "plan.0.needs",
        "plan",
    ),
    "needs nothing that is there": (
        "goal: x\nplan:\n  - {id: a, role: coder, do: x, needs: [b]}\n", "plan.0.needs.0", "plan"
    ),
    "a check outside of the folder": ("goal: x\naccept: [{file: ../x}]\n", "accept.0.file", "criterion"),
    "a workspace that is not there": ("goal: x\nworkspace: ./material\n", "workspace", "file"),
    "a workspace of our own environment": ("goal: x\nworkspace: /proc/self/environ\n", "workspace", "value"),
    "a prompt of our own environment": (
        "goal: x\nroles: {coder: {prompt: /proc/self/environ}}\n", "roles.coder.prompt", "value"
    ),
    "a check that nobody knows": ("goal: x\naccept: [{fiel: x}]\n", "accept.0.fiel", "criterion"),
    "a check whose regex takes long to compile": (
        "goal: x\naccept: [{text: a, contains: 're:(?i)[\\0-\\uffff]b[\\0-\\uffff]'}]\n",
        "accept.0.contains", "criterion",
    ),
    "more regexes than are looked at": (
        f"goal: x\naccept: [{{text: a, lacks: [{', '.join(['re:a'] * 200)}]}}, {{text: a, lacks: re:b}}]\n",
        "accept.1", "criterion",
    ),
    "a check that is no regex": ("goal: x\naccept: [{text: a, contains: 're:('}]\n", "accept.0.contains", "criterion"),
    "zero": ("goal: x\nlimits: {tokens: 0}\n", "limits.tokens", "value"),
    "nonsense": ("goal: x\nlimits: {time: soon}\n", "limits.time", "value"),
    "negative": ("goal: x\nlimits: {attempts: -1}\n", "limits.attempts", "value"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_FILES)
def test_each_fault_of_a_file_is_named_with_its_place(what: str, swarm: Callable[..., Ended], folder: Path) -> None:
    text, field, kind = BAD_FILES[what]
    (folder / "bad.yaml").write_text(text, encoding="utf-8")
    for command in ("check", "run"):
        ended = swarm(command, "bad.yaml", "--json")
        assert ended.status == 2, ended
        fault = ended.json["error"]
        assert (fault["kind"], fault["field"]) == (kind, field), fault
        assert fault["file"] == "bad.yaml"
        assert fault["message"]
        assert fault["line"] or what in {"empty", "only a comment"}
    told = swarm("run", "bad.yaml")
    assert (told.status, told.out) == (2, "")
    assert told.err.startswith("bad.yaml")
    assert "Traceback" not in told.err
    assert not (folder / ".swarm").exists()


def test_the_nearest_name_is_offered(swarm: Callable[..., Ended], folder: Path) -> None:
    (folder / "bad.yaml").write_text("goal: x\nlimts: {time: 1m}\n", encoding="utf-8")
    assert "Did you mean 'limits'?" in swarm("check", "bad.yaml").err


def test_all_faults_are_told_at_once(swarm: Callable[..., Ended], folder: Path) -> None:
    (folder / "bad.yaml").write_text("gaol: x\nlimits: {tokens: 0, tiem: 1m}\n", encoding="utf-8")
    assert len(swarm("check", "bad.yaml", "--json").json["errors"]) >= 4


def test_a_file_that_is_not_there(swarm: Callable[..., Ended]) -> None:
    ended = swarm("run", "nowhere.yaml", "--json")
    assert ended.status == 2
    assert (ended.json["error"]["kind"], ended.json["error"]["file"]) == ("file", "nowhere.yaml")
    assert "nowhere.yaml" in swarm("check", "nowhere.yaml").err


def test_a_folder_is_no_scenario(swarm: Callable[..., Ended]) -> None:
    assert swarm("run", ".").status == 2


def test_a_yaml_bomb_is_refused_at_once(swarm: Callable[..., Ended], folder: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    (folder / "bomb.yaml").write_text("\n".join([*lines, "goal: *a9"]), encoding="utf-8")
    ended = swarm("check", "bomb.yaml", "--json")
    assert (ended.status, ended.json["error"]["kind"]) == (2, "yaml")
    assert "alias" in ended.json["error"]["message"]


def test_ten_megabytes_are_refused(swarm: Callable[..., Ended], folder: Path) -> None:
    (folder / "big.yaml").write_text("goal: " + "x" * 10_000_000, encoding="utf-8")
    ended = swarm("check", "big.yaml")
    assert ended.status == 2
    assert len(ended.err) < 500


def test_a_role_that_cannot_be_made_without_arguments_is_not_attached(
    swarm: Callable[..., Ended], folder: Path
) -> None:
    (folder / "mine.py").write_text(
        "from agents.roles.coder import Coder\nclass Mine(Coder):\n    def __init__(self, style): ...\n", "utf-8"
    )
    ended = swarm("attach", "./mine.py:Mine", "--bus", "mqtt://localhost:1")
    assert ended.status == 2
    assert "./mine.py:Mine: its class cannot be made: missing a required argument: 'style'" in ended.err


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("runn", "hello.yaml"),
        ("run",),
        ("run", "hello.yaml", "--colour"),
        ("run", "hello.yaml", "--bus", "http://localhost"),
        ("hub",),
        ("hub", "--bus", "mqtt://localhost:1", "--name", "a/b"),
        ("hub", "--bus", "mqtt://localhost:1", "--log", "mysql://db/runs"),
        ("attach", "coder", "--bus", "mqtt://localhost:1", "--name", "a.b"),
        ("attach", "nobody", "--bus", "mqtt://localhost:1"),
        ("run", "hello.yaml", "--set", "nonsense"),
        ("run", "hello.yaml", "--set", "limits.tokns=5"),
        ("run", "hello.yaml", "--goal", ""),
        ("run", "hello.yaml", "--model", "tester=openai:x"),
        ("run", "hello.yaml", "--out", "."),
        ("run", "hello.yaml", "--out", "/proc/x"),
        ("show", "nothing"),
        ("show", "last", "--at", "0"),
        ("resume", "last", "--set", "goal=x"),
        ("log", "last", "--from", "9", "--to", "3"),
        ("log", "last"),
        ("runs",),
        ("init", "x.yaml", "--from", "nowhere"),
    ],
)
def test_bad_usage_exits_2_and_says_why(words: tuple[str, ...], swarm: Callable[..., Ended], folder: Path) -> None:
    told = swarm(*words)
    assert (told.status, told.out) == (2, ""), told
    assert told.err.strip()
    assert "Traceback" not in told.err
    assert not (folder / ".swarm").exists()
    if words and words[0] != "init":
        assert swarm(*words, "--json").json["error"]["message"]


def test_an_argument_that_is_no_text_is_told_as_json_too(folder: Path) -> None:
    for encoding in ("utf-8:strict", "ascii:strict"):
        env = clean_env(folder, PYTHONIOENCODING=encoding)
        ended = process("check", os.fsdecode(b"\xff\xc3\xa9.yaml"), "--json", cwd=folder, env=env)
        assert (ended.status, ended.err) == (2, "")
        assert "\\udcff" in ended.out


def test_without_a_broker_no_run_begins(swarm: Callable[..., Ended]) -> None:
    ended = swarm("run", "hello.yaml", "--bus", "mqtt://127.0.0.1:1")
    assert (ended.status, "no broker answers" in ended.err) == (3, True)
    assert swarm("runs").out == "", "no run was made"


def test_position_beyond_the_end(swarm: Callable[..., Ended]) -> None:
    assert swarm("run", "hello.yaml", "--quiet").status == 0
    ended = swarm("show", "last", "--at", "10000")
    assert (ended.status, "there is no event 10000" in ended.err) == (2, True)


def test_without_a_key_no_run_begins(swarm: Callable[..., Ended]) -> None:
    ended = swarm("run", "hello.yaml", "--model", "openai:gpt-5-mini", "--json")
    assert ended.status == 3
    assert "OPENAI_API_KEY" in ended.json["error"]["message"]
    assert swarm("runs").out == "", "no run was made"


def test_without_any_model_all_ways_to_one_are_told(
    swarm: Callable[..., Ended], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "xllamacpp" else found(name))
    (folder / "any.yaml").write_text("goal: x\n", encoding="utf-8")
    ended = swarm("run", "any.yaml")
    assert ended.status == 3
    for way in ("OPENAI_API_KEY", "ollama", "llama-server", "eventswarm[local]"):
        assert way in ended.err


def at(url: str) -> tuple[str, ...]:
    return ("--set", f"endpoints.lab={{url: '{url}', key: LAB_KEY}}", "--model", "lab:test-model", "--trust", "--json")


def test_a_wrong_key_pauses_and_a_right_one_goes_on(
    swarm: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(key="right", responder=answer) as endpoint:
        monkeypatch.setenv("LAB_KEY", "wrong")
        ended = swarm("run", "hello.yaml", *at(endpoint.url))
        assert (ended.status, ended.json["outcome"]) == (3, "paused")
        assert "LAB_KEY" in ended.json["reason"]
        assert "wrong" not in ended.out.replace("wrong key", "")
        monkeypatch.setenv("LAB_KEY", "right")
        assert swarm("resume", "last", "--json").json["outcome"] == "accepted"


def answer(body: dict[str, object]) -> object:
    messages = json.dumps(body["messages"])
    return "done" if "Wrote" in messages else Answer(calls=[("write_file", {"path": "hello.txt", "content": "hi"})])


def test_an_endpoint_that_is_down_pauses(swarm: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_KEY", "k")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        ended = swarm("run", "hello.yaml", *at(f"http://127.0.0.1:{closed.getsockname()[1]}/v1"))
    assert (ended.status, ended.json["outcome"]) == (3, "paused"), ended


def test_a_model_that_the_endpoint_does_not_have_pauses(
    swarm: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_KEY", "k")
    with serving(rule=lambda _: "404") as endpoint:
        ended = swarm("run", "hello.yaml", *at(endpoint.url))
    assert (ended.status, ended.json["outcome"]) == (3, "paused"), ended
    assert "test-model" in ended.json["reason"]


def no_bytecode(folder: Path) -> dict[str, str]:
    """Keep a process whose files are cut short from leaving cut bytecode behind."""
    return clean_env(folder, PYTHONDONTWRITEBYTECODE="1")


def limited(most: int) -> Callable[[], None]:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond fails then, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    return limit


def test_a_full_disk_at_the_start_begins_no_run(folder: Path) -> None:
    ended = process("run", "hello.yaml", "--json", cwd=folder, env=no_bytecode(folder), preexec_fn=limited(1024))
    assert ended.status == 3, ended
    assert ended.json["error"]["kind"] in {"storage", "system"}
    assert "Traceback" not in ended.err


def test_a_disk_that_fills_up_pauses_and_resume_loses_nothing(swarm: Callable[..., Ended], folder: Path) -> None:
    assert swarm("run", "hello.yaml", "--quiet").status == 0
    size = (folder / ".swarm" / "log.db").stat().st_size
    ended = process("run", "hello.yaml", "--json", cwd=folder, env=no_bytecode(folder), preexec_fn=limited(size + 4096))
    assert ended.status == 3, ended
    assert "Traceback" not in ended.err
    assert ended.json["error"]["message"]
    assert "swarm resume" in ended.json["error"]["hint"]
    interrupted = json.loads(swarm("runs", "--json").out.splitlines()[0])
    assert interrupted["outcome"] == "running"
    assert "resume" in interrupted["reason"]
    assert swarm("resume", "last", "--json").json["outcome"] == "accepted"


def test_a_run_of_another_process_is_left_alone(swarm: Callable[..., Ended], folder: Path) -> None:
    assert swarm("run", "hello.yaml", "--quiet").status == 0
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        started = ownership._started(other.pid)
        database = sqlite3.connect(folder / ".swarm" / "log.db")
        with database:
            database.execute(
                "update runs set host = ?, pid = ?, started = ?", (socket.gethostname(), other.pid, started)
            )
        database.close()
        ended = swarm("resume", "last", "--json")
        assert (ended.status, ended.json["error"]["kind"]) == (2, "usage")
        assert str(other.pid) in ended.json["error"]["message"]
        other.communicate(b"\n")
    assert swarm("resume", "last", "--json").status == 0, "once it is gone the run can be taken"


def test_a_log_of_a_newer_version_is_not_touched(swarm: Callable[..., Ended], folder: Path) -> None:
    assert swarm("run", "hello.yaml", "--quiet").status == 0
    database = sqlite3.connect(folder / ".swarm" / "log.db")
    database.execute("pragma user_version = 1000")
    database.close()
    for words in (("run", "hello.yaml"), ("show", "last"), ("resume", "last"), ("log", "last")):
        ended = swarm(*words, "--json")
        assert (ended.status, ended.json["error"]["kind"]) == (3, "too_new")


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs bwrap to make the file system read-only")
def test_a_read_only_folder_is_told_and_looking_still_works(swarm: Callable[..., Ended], folder: Path) -> None:
    assert swarm("run", "hello.yaml", "--quiet").status == 0
    read_only = ("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc")
    ended = process("run", "hello.yaml", "--json", cwd=folder, under=read_only)
    assert ended.status == 3, ended
    assert ended.json["error"]["kind"] == "storage"
    assert "permissions" in ended.json["error"]["message"]
    assert process("show", "last", "--json", cwd=folder, under=read_only).json["outcome"] == "accepted"


def test_without_a_home_directory_everything_but_setup_works(folder: Path) -> None:
    env = {name: value for name, value in clean_env(folder).items() if name != "HOME"}
    assert process("run", "hello.yaml", "--quiet", cwd=folder, env=env).status == 0
    ended = process("setup", cwd=folder, env=env, input="sk-1\n")
    assert ended.status == 3
    assert "home directory" in ended.err


def test_bytes_that_are_no_text_in_arguments(folder: Path) -> None:
    ended = process("run", os.fsdecode(b"\xff\xfe.yaml"), cwd=folder)
    assert (ended.status, "Traceback" in ended.err) == (2, False)


@pytest.mark.parametrize("words", [("--quiet",), ("--json", "--quiet")])
def test_a_standard_output_that_is_closed_is_no_error(folder: Path, words: tuple[str, ...]) -> None:
    ended = process("run", "hello.yaml", *words, cwd=folder, preexec_fn=lambda: os.close(1))
    assert (ended.status, ended.err) == (0, "")
    assert process("show", "last", "--json", cwd=folder).json["outcome"] == "accepted"


def test_with_a_standard_input_that_is_closed_nobody_is_asked(folder: Path) -> None:
    def command(*words: str) -> Ended:
        return process(*words, cwd=folder, preexec_fn=lambda: os.close(0))

    assert command("run", "hello.yaml", "--quiet").status == 0
    assert command("replay", "last").status == 0
    assert command("resume", "last").status == 0
    ended = command("rm", "last")
    assert (ended.status, "nobody is here to ask" in ended.err) == (2, True), ended
    ended = command("setup")
    assert (ended.status, "Traceback" in ended.err) == (2, False), ended


@pytest.mark.parametrize("words", ["run ../hello.yaml", "runs", "show last --files there"])
def test_a_working_folder_that_was_removed_is_told(folder: Path, words: str) -> None:
    shell = f"mkdir gone; cd gone; rmdir ../gone; {sys.executable} -m swarm {words}"
    ended = subprocess.run(
        ["sh", "-c", shell], cwd=folder, env=clean_env(folder), capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (
        2,
        "swarm: the folder you are in has been removed: change into one that is there.\n",
    )


def test_output_that_nobody_reads_is_quiet(swarm: Callable[..., Ended], folder: Path) -> None:
    assert swarm("run", "hello.yaml", "--quiet").status == 0
    shell = f"{sys.executable} -m swarm log last --json | head -c 1"
    ended = subprocess.run(
        ["sh", "-c", shell], cwd=folder, env=clean_env(folder), capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""
