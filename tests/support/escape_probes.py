"""What hostile code would try, each try a function that is true where it got through; runs alone, with the stdlib.

`python escape_probes.py FACTS NAME…` tries the named ones (all without names) and prints a line of JSON. FACTS tells
what there is to be reached outside. An `OSError` means held; any other exception is a fault of the probe itself.
"""

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FACTS = json.loads(sys.argv[1])
LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000


PROBES: dict[str, Callable[[], object]] = {}


def probe(function: Callable[[], object]) -> Callable[[], object]:
    PROBES[function.__name__] = function
    return function


def system_call(number: int, *arguments: Any) -> int:
    result = LIBC.syscall(ctypes.c_long(number), *(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def is_denied(number: int, *arguments: Any) -> bool:
    """A filter says EPERM or ENOSYS at once; the kernel, asked with nonsense, says that it is nonsense."""
    try:
        system_call(number, *arguments)
    except OSError as error:
        return error.errno in {errno.EPERM, errno.ENOSYS}
    return False


@probe
def reads_the_password_hashes() -> object:
    return "root:" in Path("/etc/shadow").read_text()


@probe
def reads_an_ssh_key() -> object:
    return "PRIVATE" in Path(FACTS["key"]).read_text()


@probe
def reads_notes() -> object:
    return "notes" in Path(FACTS["notes"]).read_text()


@probe
def reads_notes_through_a_link_left_in_the_project() -> object:
    return "notes" in Path("link-to-notes").read_text()


@probe
def finds_notes_by_walking_up() -> object:
    return "notes" in Path("../" * 20 + FACTS["notes"]).read_text()


@probe
def reads_the_environment() -> object:
    return "SWARM_CANARY" in os.environ


@probe
def reads_the_environment_of_its_parents() -> object:
    return b"SWARM_CANARY" in Path(f"/proc/{os.getppid()}/environ").read_bytes()


@probe
def writes_outside() -> object:
    return Path(FACTS["outside"], "written").write_text("x")


@probe
def writes_outside_through_a_link() -> object:
    if not Path("way-out").is_symlink():
        Path("way-out").symlink_to(FACTS["outside"])
    return Path("way-out", "written-by-link").write_text("x")


@probe
def writes_where_programs_lie() -> object:
    return any(writable(place) for place in ("/usr/bin", "/usr/lib", "/etc", "/", "/dev", "/proc", sys.prefix))


def writable(folder: str) -> bool:
    try:
        Path(folder, "swarm-canary").write_text("x")
    except OSError:
        return False
    Path(folder, "swarm-canary").unlink()
    return True


@probe
def connects_by_tcp() -> object:
    return socket.create_connection(("127.0.0.1", FACTS["tcp"]), timeout=2)


@probe
def connects_to_the_second_address() -> object:
    return socket.create_connection(("127.0.0.2", FACTS["tcp_second"]), timeout=2)


@probe
def sends_by_udp() -> object:
    return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", FACTS["udp"]))


@probe
def opens_a_netlink_socket() -> object:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)


@probe
def connects_by_path() -> object:
    return connect_unix(FACTS["unix"])


@probe
def connects_by_path_in_the_project() -> object:
    return connect_unix("host.sock")


@probe
def connects_by_abstract_name() -> object:
    return connect_unix("\0" + FACTS["abstract"])


def connect_unix(address: str) -> bool:
    client = socket.socket(socket.AF_UNIX)
    client.connect(address)
    return True


@probe
def traces_a_process() -> object:
    attach, detach = 16, 17
    if LIBC.ptrace(attach, FACTS["victim"], None, None) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    os.waitpid(FACTS["victim"], 0x40000000)
    LIBC.ptrace(detach, FACTS["victim"], None, None)
    return True


@probe
def kills_a_process() -> object:
    os.kill(FACTS["victim"], 0)
    return "sleep" in Path(f"/proc/{FACTS['victim']}/comm").read_text()


@probe
def reads_a_process_s_environment() -> object:
    return b"SWARM_CANARY" in Path(f"/proc/{FACTS['victim']}/environ").read_bytes()


@probe
def reads_a_process_s_memory() -> object:
    first = Path(f"/proc/{FACTS['victim']}/maps").read_text().split("-")[0]
    with Path(f"/proc/{FACTS['victim']}/mem").open("rb", buffering=0) as memory:
        memory.seek(int(first, 16))
        return memory.read(4)


@probe
def reads_memory_by_system_call() -> object:
    first = int(Path(f"/proc/{FACTS['victim']}/maps").read_text().split("-")[0], 16)
    buffer = ctypes.create_string_buffer(4)
    local, remote = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 4), (ctypes.c_size_t * 2)(first, 4)
    return system_call(310, FACTS["victim"], local, 1, remote, 1, 0)


@probe
def lists_processes() -> object:
    return sum(entry.name.isdigit() for entry in Path("/proc").iterdir()) > 5


@probe
def mounts() -> object:
    if LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None) < 0:
        raise OSError(ctypes.get_errno(), "mount")
    return True


@probe
def opens_a_new_mount_by_the_newer_calls() -> object:
    return not is_denied(430, b"nonsense", 0) or not is_denied(428, -1, b"nonsense", 1 << 30)


@probe
def enters_a_user_namespace() -> object:
    return in_a_child(lambda: system_call(272, CLONE_NEWUSER) == 0)


@probe
def clones_into_a_user_namespace() -> object:
    child = system_call(56, CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return True


@probe
def clones_by_the_newer_call() -> object:
    arguments = (ctypes.c_uint64 * 11)(CLONE_NEWUSER, 0, 0, 0, signal.SIGCHLD)
    child = system_call(435, arguments, ctypes.sizeof(arguments))
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return True


def in_a_child(action: Callable[[], object]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if action() else 1)
        except OSError:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


@probe
def becomes_root() -> object:
    return in_a_child(lambda: os.setuid(0) is None and os.geteuid() == 0)


@probe
def gains_by_a_setuid_program() -> object:
    return "NoNewPrivs:\t0" in Path("/proc/self/status").read_text()


@probe
def has_capabilities() -> object:
    status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
    return any(int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))


@probe
def reads_an_inherited_descriptor() -> object:
    return any(str(entry.readlink()) == FACTS["notes"] for entry in descriptors())


@probe
def has_descriptors_beyond_the_three() -> object:
    return len(descriptors()) > 3


def descriptors() -> list[Path]:
    """Those open, but for the one that lists them."""
    return [entry for entry in list(Path("/proc/self/fd").iterdir()) if entry.is_symlink()]


@probe
def shares_memory_by_name() -> object:
    return Path("/dev/shm", FACTS["shm"]).read_text()


@probe
def reads_a_disk() -> object:
    return any(
        readable(path) for path in ("/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/fuse")
    )


def readable(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


@probe
def makes_a_device() -> object:
    os.mknod("disk", 0o600 | 0o060000, os.makedev(8, 0))
    return True


@probe
def changes_the_kernel_s_settings() -> object:
    names = (
        "sys/kernel/core_pattern",
        "sys/kernel/hostname",
        "sys/vm/drop_caches",
        "sysrq-trigger",
        "sys/fs/binfmt_misc",
    )
    return any(os.access(f"/proc/{name}", os.W_OK) and os.open(f"/proc/{name}", os.O_WRONLY) for name in names)


@probe
def types_into_the_terminal() -> object:
    """Only a filter says EPERM where there is no terminal at all."""
    try:
        fcntl.ioctl(os.open("/dev/null", os.O_RDWR), 0x5412, b"x")
    except OSError as error:
        return error.errno != errno.EPERM
    return True


@probe
def loads_a_program_into_the_kernel() -> object:
    return not is_denied(321, 999, 0, 0)


@probe
def opens_performance_counters() -> object:
    return not is_denied(298, 0, 0, -1, -1, 0)


@probe
def reaches_the_keyring() -> object:
    return not is_denied(250, 999, 0, 0, 0, 0)


@probe
def sets_up_io_uring() -> object:
    return not is_denied(425, 0, 0)


@probe
def handles_page_faults() -> object:
    return not is_denied(323, 0xFFFF)


@probe
def opens_by_handle() -> object:
    return not is_denied(303, -100, b".", 0, 0, 0xFFFF)


@probe
def changes_personality() -> object:
    return not is_denied(135, 0xFFFFFFFF)


@probe
def takes_a_descriptor_of_another() -> object:
    return not is_denied(438, -1, 0, 0xFFFF)


@probe
def makes_memory_that_nobody_counts() -> object:
    return not is_denied(319, b"x", 0) or not is_denied(29, 0, 4096, 0o600 | 0o1000)


@probe
def calls_as_32_bit() -> object:
    """Another table of calls would go past the filter; `int 0x80` and x32 numbers end the process."""
    return in_a_child(lambda: system_call(0x40000000 + 39) > 0 or True)


def main() -> None:
    answers = {}
    for name in sys.argv[2:] or PROBES:
        try:
            answers[name] = "open" if PROBES[name]() else "held"
        except OSError as error:
            answers[name] = f"held: {error}"
        except Exception as error:  # noqa: BLE001 - told, and failed by the test
            answers[name] = f"broken: {error!r}"
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main()
