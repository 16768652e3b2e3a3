"""Which process owns a run, and whether that process is still there and at it."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bus.event_log import Owner, RunInfo
from swarm.errors import UsageError

_carried_on: set[str] = set()
"""Runs that this process carries on."""


@contextmanager
def carrying_on(run: str) -> Iterator[None]:
    """Note that this process carries a run on. Raises `UsageError` where it does already."""
    refuse_carried_on(run)
    _carried_on.add(run)
    try:
        yield
    finally:
        _carried_on.discard(run)


def refuse_carried_on(run: str) -> None:
    """Raise `UsageError` where this process carries a run on."""
    if run in _carried_on:
        raise UsageError(f"{run} is run by this very process already. Wait for it, or cancel it first.")


def has_left(owner: Owner, run: str) -> bool:
    """Tell whether an owner no longer carries its run on: gone, or this process, which could not say so in the log.

    That is how a full disk ends a run in a process that lives on.
    """
    return is_gone(owner) or (owner == this_process() and run not in _carried_on)


def this_process() -> Owner:
    """Return the running process as an owner."""
    pid = os.getpid()
    return Owner(socket.gethostname(), pid, _started(pid) or "unknown")


def is_abandoned(info: RunInfo) -> bool:
    """Tell whether nobody carries a run on, as far as can be seen from here."""
    return info.owner is None or is_gone(info.owner)


def is_gone(owner: Owner) -> bool:
    """Tell whether an owner cannot write any more: its process has ended, also by a reboot.

    One that cannot be looked at from here counts as there.
    """
    return is_here(owner) and _started(owner.pid) != owner.started


def is_here(owner: Owner) -> bool:
    """Tell whether an owner's process can be looked at: it is, or was, of this host, and not of another container's."""
    boot, _, namespace = owner.started.rpartition(":")[0].partition(":")
    return owner.host == socket.gethostname() and (boot != _boot() or namespace == _namespace())


def _started(pid: int) -> str | None:
    """Return when and where a process started: a pid alone may be another's by now, or by others' count.

    That is the boot's id, the namespace of pids (pid_namespaces(7)), and clock ticks since boot.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    # proc(5): the name in parentheses may hold anything; field 22 is the start time, field 3 the state.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else f"{_boot()}:{_namespace()}:{fields[19]}"


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _namespace() -> str:
    return str(Path("/proc/self/ns/pid").stat().st_ino)
