"""The system calls a sandboxed program may not make, as a BPF program for seccomp; pure.

Namespaces hide the machine, this narrows the kernel: what model-written Python never needs and past escapes did. What
is not named is allowed, up to the newest call this table knows: later ones do not exist for the program.
(seccomp(2); `linux/filter.h`, `linux/seccomp.h`, `linux/audit.h`.)
"""

import errno
import struct
from collections.abc import Iterator

from agents.errors import SandboxUnavailable

AUDIT_ARCH_X86_64 = 0xC000003E
X32_BIT = 0x40000000
NEWEST = 469
"""The newest x86_64 call we have judged, of Linux 6.18; glibc falls back where a newer one is missing."""

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
ERRNO = 0x00050000
FORBID = ERRNO | errno.EPERM
ABSENT = ERRNO | errno.ENOSYS

CLONE = 56
CLONE_NEW = 0x7E020080
"""Every CLONE_NEW* flag: time, mount, cgroup, uts, ipc, user, pid, net."""
IOCTL = 16
TERMINAL_INPUT = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX type into the terminal of whoever started us."""

# fmt: off
FORBIDDEN = {
    # a new view of the file system, another root
    "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "move_mount": 429, "open_tree": 428,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "mount_setattr": 442, "open_tree_attr": 467,
    # new or other namespaces
    "unshare": 272, "setns": 308,
    # other processes
    "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "process_madvise": 440, "kcmp": 312,
    "pidfd_getfd": 438, "perf_event_open": 298, "lookup_dcookie": 212, "move_pages": 279, "migrate_pages": 256,
    # files by handle, special files, watching a whole mount
    "mknod": 133, "mknodat": 259, "open_by_handle_at": 304, "name_to_handle_at": 303,
    "fanotify_init": 300, "fanotify_mark": 301, "quotactl": 179, "quotactl_fd": 443,
    # large surfaces of the kernel
    "bpf": 321, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "userfaultfd": 323,
    "add_key": 248, "request_key": 249, "keyctl": 250, "personality": 135, "modify_ldt": 154, "uselib": 134,
    "mbind": 237, "set_mempolicy": 238, "set_mempolicy_home_node": 450,
    # the machine itself
    "reboot": 169, "swapon": 167, "swapoff": 168, "acct": 163, "syslog": 103, "vhangup": 153, "_sysctl": 156,
    "kexec_load": 246, "kexec_file_load": 320, "create_module": 174, "init_module": 175, "delete_module": 176,
    "query_module": 178, "finit_module": 313, "nfsservctl": 180, "iopl": 172, "ioperm": 173, "sysfs": 139,
    "sethostname": 170, "setdomainname": 171, "settimeofday": 164, "clock_settime": 227,
    "adjtimex": 159, "clock_adjtime": 305,
    # the network; socketpair(2) stays, asyncio needs it
    "socket": 41,
}

MISSING = {
    # its flags lie in memory that a filter cannot read; glibc then uses clone(2)
    "clone3": 435,
    # memory that belongs to no process and no mount, which the watch would not see
    "memfd_create": 319, "memfd_secret": 447, "shmget": 29, "semget": 64, "msgget": 68,
}
# fmt: on

# classic BPF, `linux/bpf_common.h`
_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL, _AT_LEAST, _ANY_BIT = 0x15, 0x35, 0x45  # BPF_JMP | BPF_JEQ, BPF_JGE, BPF_JSET, each with BPF_K
_RETURN = 0x06  # BPF_RET | BPF_K
# offsets in `struct seccomp_data`; the lower halves of the arguments, as x86_64 is little endian
_NUMBER, _MACHINE, _FIRST, _SECOND = 0, 4, 16, 24

Instruction = tuple[int, int, int, int]
"""Code, jump if true, jump if false, operand: `struct sock_filter`."""


def bpf(machine: str) -> bytes:
    """Return the filter for a machine (`uname -m`) as an array of `struct sock_filter`.

    Raises `SandboxUnavailable` for a machine whose calls we have no table of: a filter made for another would let
    everything through.
    """
    if machine != "x86_64":
        raise SandboxUnavailable(
            f"There is no table of system calls for {machine!r} yet, only for x86_64.",
            "Run the code on an x86_64 machine.",
        )
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in _instructions())


def _instructions() -> Iterator[Instruction]:
    """Every test is followed by what it decides, so that no jump is longer than a few steps."""
    yield _LOAD, 0, 0, _MACHINE
    yield _EQUAL, 1, 0, AUDIT_ARCH_X86_64
    yield _RETURN, 0, 0, KILL_PROCESS
    yield _LOAD, 0, 0, _NUMBER
    yield _AT_LEAST, 0, 1, X32_BIT
    yield _RETURN, 0, 0, KILL_PROCESS
    yield _AT_LEAST, 0, 1, NEWEST + 1
    yield _RETURN, 0, 0, ABSENT
    for numbers, answer in ((FORBIDDEN, FORBID), (MISSING, ABSENT)):
        for number in sorted(numbers.values()):
            yield _EQUAL, 0, 1, number
            yield _RETURN, 0, 0, answer
    yield _EQUAL, 0, 4, CLONE
    yield _LOAD, 0, 0, _FIRST
    yield _ANY_BIT, 0, 1, CLONE_NEW
    yield _RETURN, 0, 0, FORBID
    yield _RETURN, 0, 0, ALLOW
    yield _EQUAL, 0, 1 + 2 * len(TERMINAL_INPUT), IOCTL
    yield _LOAD, 0, 0, _SECOND
    for request in TERMINAL_INPUT:
        yield _EQUAL, 0, 1, request
        yield _RETURN, 0, 0, FORBID
    yield _RETURN, 0, 0, ALLOW
