"""One suite over every sandbox: what hostile code tries is held, as root and as an ordinary user."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agents.errors import SandboxUnavailable
from agents.sandbox import Bounds, Ended, Sandbox
from agents.sandboxes import SANDBOXES, bubblewrap
from agents.sandboxes.bubblewrap import BubblewrapSandbox
from agents.sandboxes.parts import interpreter, usage
from tests.support import escape_suite

ROOT = Path(__file__).parents[2]
ORDINARY = 1000
AS_ROOT = os.geteuid() == 0
AS_ORDINARY = ("setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups", "env")
"""setpriv(1) itself may still open everything when it starts a program; env(1) may not any more."""
LONE_ROOT = ("unshare", "--user", "--map-root-user")
"""Of an ordinary user: as root where no other user is, as in a container without a range of user ids."""
FORMS = [f"{name}-{form}" for name in SANDBOXES for form in ("lone root", "user", *(("root",) if AS_ROOT else ()))]

Report = dict[str, Any]
TEST_PRICING = """
import pricing, unittest
class TestPricing(unittest.TestCase):
    def test_total(self):
        self.assertEqual(pricing.total(), 42)
"""


def may_be_run(python: str) -> bool:
    """Tell whether it is there, new enough, and may be run by an ordinary user."""
    line = [*(AS_ORDINARY if AS_ROOT else ()), python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    return subprocess.run(line, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module", params=FORMS)
def report(request: pytest.FixtureRequest) -> Iterator[Report]:
    """What came of all escapes, tried once for each sandbox and each kind of user."""
    name, _, form = request.param.rpartition("-")
    changes_user = form != "root" and AS_ROOT
    as_whom = (*(AS_ORDINARY if changes_user else ()), *(LONE_ROOT if form == "lone root" else ()))
    if form == "lone root" and subprocess.run([*as_whom, "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare(1) may make no user namespace here")
    python = sys.executable
    if changes_user and not may_be_run(python):
        python = "/usr/bin/python3"
        if not may_be_run(python):
            pytest.skip("no Python 3.11 that an ordinary user may run")
    with tempfile.TemporaryDirectory(prefix="swarm-escapes-") as place:
        Path(place).chmod(0o755)
        here, code = Path(place, "here"), Path(place, "code")
        here.mkdir()
        for part in ("agents", "bus", "tests/support"):  # the tree itself may lie where only we can read
            shutil.copytree(ROOT / part, code / part, ignore=shutil.ignore_patterns("__pycache__"))
        if changes_user:
            os.chown(here, ORDINARY, ORDINARY)
        done = subprocess.run(
            [*as_whom, python, "-B", "-m", "tests.support.escape_suite", name, str(here)],
            cwd=code,
            env=os.environ | {"SWARM_CANARY": "canary"},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stderr
        found: Report = json.loads(done.stdout)
        assert (found["uid"] == 0) == (form != "user")
        yield found


def test_every_probe_is_held(report: Report) -> None:
    assert len(report["inside"]) >= 45
    assert {name: said for name, said in report["inside"].items() if not said.startswith("held")} == {}


def test_what_is_harmless_succeeds_outside_so_the_probes_prove_something(report: Report) -> None:
    assert len(report["outside"]) >= 25
    assert {name: said for name, said in report["outside"].items() if said != "open"} == {}


@pytest.mark.parametrize(
    ("program", "ended"),
    [
        ("five_times_500_mib", "memory"),
        ("memory_in_tmp", "memory"),
        ("endless_output", "output"),
        ("endless_loop", "deadline"),
        ("daemon_at_deadline", "deadline"),
        ("many_big_files", "disk"),
        ("many_files", "disk"),
        ("many_files_and_gone", "disk"),
        ("many_files_in_tmp", "disk"),
        ("deep_folders", "disk"),
        ("hidden_files", "disk"),
        ("deleted_open_files", "disk"),
    ],
)
def test_a_program_that_takes_too_much_is_ended_and_says_why(report: Report, program: str, ended: str) -> None:
    completed = report["programs"][program]
    assert completed["ended"] == ended, completed
    assert completed["took_s"] < 25, "the deadline of these is later, or nearly at once"


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("two_gib", "refused\n"),
        ("big_file", "File too large\n"),
        ("sparse_file", "File too large\n"),
        ("standard_input", "''\n"),
        ("daemon_after_exit", "parent is done\n"),
    ],
)
def test_the_kernel_refuses_a_program_what_is_not_its_own(report: Report, program: str, said: str) -> None:
    completed = report["programs"][program]
    assert (completed["ended"], completed["status"], completed["output"]) == ("exit", 0, said)


def test_a_fork_bomb_makes_no_more_processes_than_its_bound(report: Report) -> None:
    completed = report["programs"]["fork_bomb"]
    assert completed["ended"] == "exit"
    assert 50 < int(completed["output"]) <= Bounds().processes


def test_an_endless_loop_uses_no_more_processor_time_than_its_bound(report: Report) -> None:
    completed = report["programs"]["endless_loop_against_cpu"]
    assert (completed["ended"], completed["status"]) == ("exit", 128 + signal.SIGXCPU)


def test_the_ends_of_endless_output_are_kept(report: Report) -> None:
    completed = report["programs"]["endless_output"]
    assert completed["cut_bytes"] > 1_000_000
    assert 100_000 <= completed["output_size"] < 100_100


def test_no_process_outlives_its_run(report: Report) -> None:
    assert report["still_running"] == []


def test_what_is_left_behind_is_ours_readable_and_without_setuid_bits(report: Report) -> None:
    left = report["programs"]["things_left_behind"]["left"]
    assert {owner for owner, _ in left.values()} == {report["uid"]}
    assert left["tool"][1] == "0o100755"
    assert left["d"][1] == "0o40700"
    assert left["d/secret"][1] == "0o100600"
    assert left["link"][1].startswith("0o12")


# from here on in this process, as whoever runs the tests


@pytest.fixture(params=list(SANDBOXES))
async def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    module, _, attribute = SANDBOXES[request.param].partition(":")
    made: Sandbox = getattr(__import__(module, fromlist=[attribute]), attribute)()
    await made.probe()
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "a project, with a space"
    place.mkdir(mode=0o700)
    return place


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_files_of_the_project_are_read_and_written(sandbox: Sandbox, folder: Path) -> None:
    (folder / "in.txt").write_text("before")
    (folder / "in.txt").chmod(0o600)
    code = "print(open('in.txt').read()); open('out.txt', 'w').write('after')"
    completed = await sandbox.run(("python", "-c", code), folder=folder, timeout_s=20)
    assert (completed.status, completed.ended, completed.output) == (0, Ended.EXIT, "before\n")
    assert (folder / "out.txt").read_text() == "after"
    assert {path.lstat().st_uid for path in (folder, *folder.iterdir())} == {os.geteuid()}


async def test_python_finds_the_modules_of_the_project_and_leaves_no_cache(sandbox: Sandbox, folder: Path) -> None:
    (folder / "pricing.py").write_text("def total(): return 42\n")
    (folder / "test_pricing.py").write_text(TEST_PRICING)
    command = "python -m unittest -q && python3 test_pricing.py && python -c 'import pricing; print(pricing.total())'"
    completed = await sandbox.run(("sh", "-c", command), folder=folder, timeout_s=30)
    assert completed.status == 0, completed.output
    assert completed.output.endswith("42\n")
    assert sorted(path.name for path in folder.iterdir()) == ["pricing.py", "test_pricing.py"]


async def test_the_interpreter_sees_the_packages_that_ours_sees(sandbox: Sandbox, folder: Path) -> None:
    code = "import sys, pydantic, sqlite3, ssl, multiprocessing.pool; print(sys.prefix)"
    completed = await sandbox.run(("python", "-c", code), folder=folder, timeout_s=30)
    assert completed.output == f"{sys.prefix}\n"


async def test_pytest_runs_also_where_our_plugin_is_installed_from_a_checkout(sandbox: Sandbox, folder: Path) -> None:
    (folder / "test_it.py").write_text("def test_it():\n    pass\n")
    tried = await sandbox.run(("python", "-m", "pytest", "-q", "-p", "no:cacheprovider"), folder=folder, timeout_s=30)
    assert "1 passed" in tried.output, tried.output


async def test_asyncio_threads_and_process_pools_work(sandbox: Sandbox, folder: Path) -> None:
    code = (
        "import asyncio, multiprocessing\n"
        "async def main():\n"
        "    made = await asyncio.create_subprocess_exec('echo', 'hello', stdout=-1)\n"
        "    return (await made.communicate())[0].decode() + str(await asyncio.to_thread(sum, [1, 2]))\n"
        "print(asyncio.run(main()), multiprocessing.Pool(2).map(abs, [-1, -2]))\n"
    )
    completed = await sandbox.run(("python", "-c", code), folder=folder, timeout_s=30)
    assert completed.output == "hello\n3 [1, 2]\n"


async def test_the_environment_is_ours_and_what_is_given(
    sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    command = "env"
    completed = await sandbox.run(("sh", "-c", command), folder=folder, timeout_s=20, env={"INPUT_X": "a\nb $HOME"})
    names = [line.partition("=")[0] for line in completed.output.splitlines() if "=" in line]
    assert "INPUT_X=a\nb $HOME\n" in completed.output
    assert {"HOME", "LANG", "PYTHONDONTWRITEBYTECODE"} <= set(names)
    assert "OPENAI" not in completed.output


@pytest.mark.parametrize("env", [{"A": "x\0--bind\0/\0/host"}, {"A\0--bind": "x"}, {"A=B": "x"}, {"": "x"}])
async def test_an_environment_that_would_become_options_is_refused(
    sandbox: Sandbox, folder: Path, env: dict[str, str]
) -> None:
    with pytest.raises(ValueError, match="environment variable"):
        await sandbox.run(("true",), folder=folder, timeout_s=20, env=env)


async def test_a_file_of_several_names_is_several_files_afterwards(sandbox: Sandbox, folder: Path) -> None:
    (folder / "tool.sh").write_text("echo hi")
    command = "chmod 755 tool.sh; ln tool.sh a.sh; mkdir d; ln tool.sh d/b.sh; chmod 111 a.sh"
    completed = await sandbox.run(("sh", "-c", command), folder=folder, timeout_s=20)
    assert completed.status == 0, completed.output
    for name in ("tool.sh", "a.sh", "d/b.sh"):
        assert (folder / name).read_text() == "echo hi"
    left = {path.relative_to(folder).as_posix(): path.stat() for path in folder.rglob("*") if path.is_file()}
    assert {info.st_nlink for info in left.values()} == {1}
    assert {info.st_uid for info in left.values()} == {os.geteuid()}
    assert {oct(info.st_mode) for info in left.values()} == {"0o100711"}
    assert sorted(left) == ["a.sh", "d/b.sh", "tool.sh"]


async def test_no_more_is_copied_for_names_than_a_folder_may_hold(sandbox: Sandbox, folder: Path) -> None:
    command = "truncate -s 30M sparse; for n in 1 2 3 4 5 6; do ln sparse $n; done"
    completed = await sandbox.run(("sh", "-c", command), folder=folder, timeout_s=20, bounds=Bounds(folder=70 << 20))
    assert (completed.ended, completed.status) == (Ended.EXIT, 0), completed.output
    assert sorted(path.stat().st_nlink for path in folder.iterdir()) == [1, 1, 5, 5, 5, 5, 5]


async def test_what_a_link_leads_to_keeps_its_owner_and_mode(sandbox: Sandbox, folder: Path, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    diary.write_text("private")
    diary.chmod(0o4400)
    before = diary.stat()
    (folder / "link").symlink_to(diary)
    (folder / "way-out").symlink_to(tmp_path)
    command = f"ln -s {diary} made-inside; chmod 777 link made-inside way-out"
    await sandbox.run(("sh", "-c", command), folder=folder, timeout_s=20)
    after = diary.stat()
    assert (after.st_uid, after.st_mode, after.st_ctime_ns) == (before.st_uid, before.st_mode, before.st_ctime_ns)
    assert (folder / "made-inside").is_symlink()


async def test_a_signal_is_told_as_shells_do_and_a_missing_program_as_well(sandbox: Sandbox, folder: Path) -> None:
    killed = await sandbox.run(("sh", "-c", "kill -SEGV $$"), folder=folder, timeout_s=20)
    missing = await sandbox.run(("no-such-program",), folder=folder, timeout_s=20)
    assert killed.status == 128 + signal.SIGSEGV
    assert missing.status == 127
    assert "no-such-program" in missing.output


async def test_many_run_at_once_each_in_its_own_folder(sandbox: Sandbox, tmp_path: Path) -> None:
    async def run(number: int) -> str:
        own = tmp_path / str(number)
        own.mkdir()
        code = f"import os, time; open('n', 'w').write('{number}'); print(os.listdir('.'), open('n').read())"
        return (await sandbox.run(("python", "-c", code), folder=own, timeout_s=60)).output

    assert await asyncio.gather(*map(run, range(8))) == [f"['n'] {number}\n" for number in range(8)]


def test_what_the_machine_has_in_tmp_never_counts_as_the_programs() -> None:
    """It is seen for a moment, before bubblewrap has set up the sandbox's own: on a busy machine for a long one."""
    filled = Path("/dev/shm/of-others")
    filled.write_bytes(bytes(1 << 20))
    try:
        assert usage.mounted(os.getpid(), "/dev/shm") == (0, 0)
        for _ in range(10):
            go_end, go_start = os.pipe()
            said_end, said_start = os.pipe()
            options = ["--unshare-all", "--ro-bind", "/usr", "/usr", "--dev", "/dev", "--tmpfs", "/tmp"]
            line = ["bwrap", "--json-status-fd", str(said_start), "--block-fd", str(go_end), *options, "--", "true"]
            with subprocess.Popen(line, pass_fds=(said_start, go_end), stderr=subprocess.DEVNULL):
                pid = int(re.search(rb'"child-pid": (\d+)', os.read(said_end, 4096))[1])
                until = time.monotonic() + 0.02
                seen = set()
                while time.monotonic() < until:
                    seen |= {usage.mounted(pid, path)[0] for path in ("/tmp", "/dev/shm")}
                os.write(go_start, b"\n")
            for end in (go_end, go_start, said_end, said_start):
                os.close(end)
            assert max(seen) < 1 << 20
    finally:
        filled.unlink()


async def test_no_descriptor_and_no_zombie_is_left(sandbox: Sandbox, folder: Path) -> None:
    def held() -> tuple[list[str], list[int]]:
        return sorted(entry.name for entry in Path("/proc/self/fd").iterdir()), usage.family(os.getpid())

    await sandbox.run(("true",), folder=folder, timeout_s=20)  # the loop's own threads and pipes are there by now
    before = held()
    for command in ("true", "exit 3", "yes", "sleep 60"):
        bounds = Bounds(output=10_000)
        await sandbox.run(("sh", "-c", command), folder=folder, timeout_s=0.5, bounds=bounds)
    assert held() == before


@pytest.mark.parametrize("repeated", [False, True])
async def test_cancelling_kills_the_whole_tree_before_it_returns(
    sandbox: Sandbox, folder: Path, *, repeated: bool
) -> None:
    program = "import os, time\nfor _ in range(3):\n    os.fork()\nopen('begun', 'w').close()\n"
    program += f"time.sleep(60)  # {escape_suite.MARK}"
    task = asyncio.create_task(sandbox.run(("python", "-c", program), folder=folder, timeout_s=60))
    await until((folder / "begun").exists)
    assert escape_suite.marked()
    task.cancel()
    if repeated:
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert escape_suite.marked() == []
    assert {path.lstat().st_uid for path in (folder, *folder.iterdir())} == {os.geteuid()}


async def test_cancelling_at_any_step_leaves_nothing_behind(sandbox: Sandbox, folder: Path) -> None:
    for turns in range(12):
        task = asyncio.create_task(sandbox.run(("sleep", "60"), folder=folder, timeout_s=60))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert usage.family(os.getpid()) == [os.getpid()]
    assert folder.stat().st_uid == os.geteuid()


async def test_all_die_with_the_process_that_started_them(folder: Path) -> None:
    launcher = (
        "import asyncio, pathlib, sys\n"
        "from agents.sandboxes.bubblewrap import BubblewrapSandbox\n"
        f"line = ('python', '-c', 'import time; open(\"begun\", \"w\"); time.sleep(60)  # {escape_suite.MARK}')\n"
        "asyncio.run(BubblewrapSandbox().run(line, folder=pathlib.Path(sys.argv[1]), timeout_s=60))\n"
    )
    with subprocess.Popen([sys.executable, "-c", launcher, str(folder)], cwd=ROOT) as process:
        try:
            await until((folder / "begun").exists)
        finally:
            process.kill()
    await until(lambda: not escape_suite.marked())


async def test_an_interpreter_of_an_environment_below_a_private_home_works(folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home / "venv")], check=True)
    (home / "diary").write_text("private")
    sandbox = BubblewrapSandbox(str(home / "venv/bin/python"))
    code = f"import os, sys; print(sys.prefix, os.listdir({str(home)!r}))"
    completed = await sandbox.run(("python", "-c", code), folder=folder, timeout_s=20)
    assert completed.output == f"{home}/venv ['venv']\n"


async def test_an_interpreter_that_is_started_by_a_relative_path_works(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    monkeypatch.chdir(folder)
    sandbox = BubblewrapSandbox(os.path.relpath(tmp_path / "venv/bin/python"))
    completed = await sandbox.run(("python", "-c", "import sys; print(sys.prefix)"), folder=folder, timeout_s=20)
    assert completed.output == f"{tmp_path}/venv\n"


@pytest.mark.skipif(not may_be_run("/usr/bin/python3"), reason="no system Python of 3.11")
async def test_the_system_s_interpreter_is_python_inside_too(folder: Path) -> None:
    sandbox = BubblewrapSandbox("/usr/bin/python3")
    completed = await sandbox.run(
        ("sh", "-c", "python -c 'import sys; print(sys.prefix)'"), folder=folder, timeout_s=20
    )
    assert completed.output == "/usr\n"


async def test_an_interpreter_is_looked_at_without_our_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LAB_KEY", "secret")
    named = tmp_path / "python"
    named.write_text(f'#!/bin/sh\nenv > "{tmp_path}/seen"\nexec {sys.executable} "$@"\n', encoding="utf-8")
    named.chmod(0o700)
    await interpreter.find(str(named))
    assert "PATH=" in (tmp_path / "seen").read_text("utf-8")
    assert "LAB_KEY" not in (tmp_path / "seen").read_text("utf-8")


async def test_what_is_no_interpreter_is_refused_with_a_remedy() -> None:
    for python in ("/no/such/python", "/bin/true"):
        with pytest.raises(SandboxUnavailable, match="cannot be used") as caught:
            await BubblewrapSandbox(python).probe()
        assert "venv" in caught.value.remedy


async def test_an_interpreter_whose_folder_is_the_home_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match="more than an interpreter"):
        await BubblewrapSandbox(str(tmp_path / "bin/python")).probe()


async def test_without_bubblewrap_the_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
        await BubblewrapSandbox().probe()


@pytest.mark.parametrize(
    ("program", "said", "remedy"),
    [
        ("echo 'bwrap: Unknown option --disable-userns' >&2; exit 1", "Unknown option", "too old"),
        ("echo 'bwrap: setting up uid map: Permission denied' >&2; exit 1", "uid map", "user namespaces"),
        ("exit 0", "ended with status 0", "user namespaces"),
        ("echo 'shut in'; exit 0", "shut in", "user namespaces"),
    ],
)
async def test_a_bubblewrap_that_does_not_work_is_found_out_by_running_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, program: str, said: str, remedy: str
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text(f"#!/bin/sh\n{program}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for _ in range(2):  # the second answer is the one remembered
        with pytest.raises(SandboxUnavailable) as caught:
            await BubblewrapSandbox().probe()
        assert said in caught.value.reason
        assert remedy in caught.value.remedy


async def test_a_sandbox_that_holds_nothing_fails_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap.seccomp, "bpf", lambda _: (0x7FFF0000 << 32 | 0x06).to_bytes(8, "little"))
    monkeypatch.setattr(bubblewrap, "_answers", {})
    with pytest.raises(SandboxUnavailable, match="the network"):
        await BubblewrapSandbox().probe()


@pytest.mark.skipif(not AS_ROOT, reason="only the machine's root can be it where nobody else is")
def test_the_machine_s_root_that_has_no_user_id_to_lend_is_told_what_helps() -> None:
    line = [*LONE_ROOT, sys.executable, "-m", "swarm", "doctor", "sandbox", "--json"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    (found,) = json.loads(done.stdout)["sandbox"]
    assert (done.returncode, found["good"]) == (3, False)
    assert "the machine's root in a user namespace that has no other user" in found["told"]
    assert found["remedy"].startswith("Run it as an ordinary user; or where more user ids are mapped")


async def test_the_probe_s_answer_is_remembered(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "_probe", None)
    await sandbox.probe()


@contextlib.contextmanager
def platform_is(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as changed:
        changed.setattr(sys, "platform", name)
        yield


async def test_elsewhere_than_on_linux_it_refuses_and_says_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SandboxUnavailable, match="macOS follows"), platform_is("darwin", monkeypatch):
        bubblewrap._program()
