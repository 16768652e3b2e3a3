"""Runs every escape against one sandbox, and the harmless ones outside of it too; prints what came of it.

`python -m tests.support.escape_suite NAME PLACE`: the sandbox's short name, and an empty folder that the present user
owns; the environment has a SWARM_CANARY. It is a program of its own, so that it can be run as another user; it needs
the standard library only.
"""

import asyncio
import dataclasses
import importlib
import json
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from agents.files.removal import remove_tree
from agents.sandbox import Bounds, Sandbox
from agents.sandboxes import SANDBOXES

PROBES = Path(__file__).with_name("escape_probes.py")
MARK = f"swarm-escape-{os.getpid()}"
"""Stands in the command line of what must not outlive its run; no other test process has the same."""
MIB = 2**20

HARMLESS = (
    *("reads_an_ssh_key", "reads_notes", "reads_notes_through_a_link_left_in_the_project", "reads_the_environment"),
    *("finds_notes_by_walking_up", "reads_the_environment_of_its_parents"),
    *("writes_outside", "writes_outside_through_a_link", "connects_by_tcp", "connects_to_the_second_address"),
    *("sends_by_udp", "opens_a_netlink_socket", "connects_by_path", "connects_by_path_in_the_project"),
    *("connects_by_abstract_name", "kills_a_process", "reads_a_process_s_environment", "reads_a_process_s_memory"),
    *("reads_memory_by_system_call", "lists_processes", "reads_an_inherited_descriptor"),
    *("has_descriptors_beyond_the_three", "shares_memory_by_name", "gains_by_a_setuid_program"),
    *("makes_memory_that_nobody_counts", "changes_personality", "opens_by_handle", "takes_a_descriptor_of_another"),
)
"""What succeeds for anyone outside of a sandbox and changes nothing: a probe that cannot succeed proves nothing."""
HARMLESS_AS_ROOT = (
    *("reads_the_password_hashes", "becomes_root", "has_capabilities", "changes_the_kernel_s_settings"),
    *("traces_a_process", "enters_a_user_namespace", "clones_into_a_user_namespace", "clones_by_the_newer_call"),
    "opens_a_new_mount_by_the_newer_calls",
)

SLEEP = "time.sleep(60)"
DAEMON = f"""
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 9)
        time.sleep(60)  # {MARK}
    os._exit(0)
"""


def write(name: str, size: int, times: int, *, more: str = "") -> str:
    """Return a program that writes so many files of a size, and stays."""
    return f"import os, time\nfor n in range({times}):\n    open(f'{name}', 'wb').write(b'x' * {size})\n{more}\n{SLEEP}"


FORK_BOMB = """
import os, time
made = 0
try:
    while made < 500:
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except OSError:
    pass
print(made, flush=True)
os._exit(0)
"""
TWO_GIB = """
try:
    bytearray(2 << 30)
    print("got it")
except MemoryError:
    print("refused")
"""
FIVE_TIMES_500_MIB = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        break
x = b"x" * (500 << 20)
time.sleep(60)
"""
DEEP = """
import os, time
for _ in range(3000):
    os.mkdir("d")
    os.chdir("d")
time.sleep(60)
"""
DELETED_OPEN = """
import os, time
kept = []
for _ in range(30):
    kept.append(open("x", "wb", buffering=0))
    os.unlink("x")
    kept[-1].write(b"x" * (2 << 20))
time.sleep(60)
"""
LEFT_BEHIND = """
import os
open("tool", "w").write("x")
os.chmod("tool", 0o6755)
os.mkdir("d")
os.chmod("d", 0o3700)
open("d/secret", "w").write("x")
os.chmod("d/secret", 0)
os.chmod("d", 0)
os.symlink("/etc/passwd", "link")
os.symlink("..", "d-up")
"""
TOO_LARGE = """
try:
    {}
except OSError as error:
    print(error.strerror)
"""

PROGRAMS: dict[str, tuple[str, float, Bounds]] = {
    "fork_bomb": (FORK_BOMB, 20, Bounds()),
    "two_gib": (TWO_GIB, 20, Bounds()),
    "five_times_500_mib": (FIVE_TIMES_500_MIB, 30, Bounds()),
    "memory_in_tmp": (write("/tmp/{n}", 50 * MIB, 4), 30, Bounds(memory=150 * MIB)),
    "many_files_in_tmp": (write("/tmp/{n}", 0, 3000), 30, Bounds(files=1000)),
    "endless_output": ("while True:\n    print('x' * 10000)", 30, Bounds(output=100_000)),
    "endless_loop": ("print('begun', flush=True)\nwhile True:\n    pass", 1, Bounds()),
    "endless_loop_against_cpu": ("while True:\n    pass", 30, Bounds(cpu_s=1)),
    "daemon_after_exit": (f"{DAEMON}\nprint('parent is done')", 30, Bounds()),
    "daemon_at_deadline": (f"{DAEMON}\n{SLEEP}", 0.7, Bounds()),
    "big_file": (TOO_LARGE.format("open('big', 'wb').write(b'x' * (20 << 20))"), 30, Bounds(file=10 * MIB)),
    "sparse_file": (TOO_LARGE.format("open('big', 'wb').truncate(10 << 30)"), 30, Bounds()),
    "many_big_files": (write("{n}", 5 * MIB, 16), 30, Bounds(folder=20 * MIB)),
    "many_files": (write("{n}", 0, 3000), 30, Bounds(files=1000)),
    "many_files_and_gone": ("for n in range(3000):\n    open(f'{n}', 'wb').close()", 30, Bounds(files=1000)),
    "deep_folders": (DEEP, 30, Bounds()),
    "hidden_files": (
        write("d/x", 30 * MIB, 1, more="os.chmod('d', 0)\nos.chmod('.', 0)").replace("for n", "os.mkdir('d')\nfor n"),
        30,
        Bounds(folder=20 * MIB),
    ),
    "deleted_open_files": (DELETED_OPEN, 30, Bounds(folder=10 * MIB)),
    "things_left_behind": (LEFT_BEHIND, 30, Bounds()),
    "standard_input": ("import sys\nprint(repr(sys.stdin.read()))", 30, Bounds()),
}
AT_ONCE = 3
"""Programs run at the same time."""


def marked() -> list[str]:
    """Return the processes whose command line bears our mark."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if MARK.encode() in line:
            found.append(entry.name)
    return found


async def run_programs(sandbox: Sandbox, place: Path) -> dict[str, object]:
    room = asyncio.Semaphore(AT_ONCE)

    async def run(name: str) -> tuple[str, dict[str, object]]:
        program, timeout_s, bounds = PROGRAMS[name]
        folder = place / name
        folder.mkdir(mode=0o700)
        async with room:
            begun = time.monotonic()
            completed = await sandbox.run(("python", "-c", program), folder=folder, timeout_s=timeout_s, bounds=bounds)
            took = time.monotonic() - begun
        left = {
            str(path.relative_to(folder)): [path.lstat().st_uid, oct(path.lstat().st_mode)]
            for path in list(folder.iterdir())[:5] + list(folder.glob("d/secret"))
        }
        remove_tree(folder)  # some leave a tree too deep for what removes temporary folders
        answer = {**dataclasses.asdict(completed), "output": completed.output[:300], "took_s": took, "left": left}
        return name, answer | {"output_size": len(completed.output)}

    return dict(await asyncio.gather(*map(run, PROGRAMS)))


async def run_all(name: str, place: Path) -> dict[str, object]:
    module, _, attribute = SANDBOXES[name].partition(":")
    sandbox = getattr(importlib.import_module(module), attribute)()
    outside, project = place / "outside", place / "project"
    outside.mkdir()
    project.mkdir(mode=0o700)
    (outside / "notes.txt").write_text("my notes")
    key = outside / "id_ed25519"
    key.write_text("PRIVATE KEY")
    key.chmod(0o600)
    (project / "link-to-notes").symlink_to(outside / "notes.txt")
    (project / "probes.py").write_text(PROBES.read_text())
    shared = Path("/dev/shm", f"swarm-canary-{os.getpid()}")
    shared.write_text("shared")
    notes = os.open(outside / "notes.txt", os.O_RDONLY)
    os.set_inheritable(notes, True)
    abstract = f"swarm-canary-{os.getpid()}"
    with ExitStack() as stack:
        stack.callback(shared.unlink)
        tcp, second = (stack.enter_context(socket.create_server((host, 0))) for host in ("127.0.0.1", "127.0.0.2"))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", 0))
        for address in (str(outside / "s.sock"), str(project / "host.sock"), "\0" + abstract):
            server = stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(address)
            server.listen()
        victim = stack.enter_context(subprocess.Popen(["sleep", "300"]))
        stack.callback(victim.kill)
        facts = json.dumps(
            {"outside": str(outside), "notes": str(outside / "notes.txt"), "key": str(key), "shm": shared.name}
            | {"tcp": tcp.getsockname()[1], "tcp_second": second.getsockname()[1], "udp": udp.getsockname()[1]}
            | {"unix": str(outside / "s.sock"), "abstract": abstract, "victim": victim.pid}
        )
        inside = await sandbox.run(("python", "probes.py", facts), folder=project, timeout_s=30)
        owns_machine = os.geteuid() == Path("/proc/sys/kernel").stat().st_uid  # not so root of a user namespace
        harmless = HARMLESS + (HARMLESS_AS_ROOT if owns_machine else ())
        control = subprocess.run(
            [sys.executable, "probes.py", facts, *harmless],
            cwd=project,
            close_fds=False,
            capture_output=True,
            text=True,
            check=True,
        )
        programs = await run_programs(sandbox, place)
        return {
            "uid": os.geteuid(),
            "inside": json.loads(inside.output),
            "outside": json.loads(control.stdout),
            "programs": programs,
            "still_running": marked(),
        }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(run_all(sys.argv[1], Path(sys.argv[2])))))
