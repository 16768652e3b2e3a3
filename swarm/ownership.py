"""Which process owns a run, and whether that process is still there."""

import os
import socket
from pathlib import Path

from bus.event_log import Owner


def this_process() -> Owner:
    """Return the running process as an owner."""
    pid = os.getpid()
    return Owner(socket.gethostname(), pid, _started(pid) or "unknown")


def is_gone(owner: Owner) -> bool:
    """Tell whether an owner cannot write any more: its process has ended, also by a reboot.

    An owner on another host cannot be looked at from here; it counts as there.
    """
    return owner.host == socket.gethostname() and _started(owner.pid) != owner.started


def _started(pid: int) -> str | None:
    """Return when a process started, as boot id and clock ticks since boot: a pid alone may be another's by now."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    # proc(5): the name in parentheses may hold anything; field 22 is the start time, field 3 the state.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else f"{boot}:{fields[19]}"
