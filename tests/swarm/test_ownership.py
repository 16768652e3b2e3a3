"""Which process owns a run, and whether it is still there."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bus.event_log import Owner
from swarm.runs.ownership import is_gone, this_process


def test_this_process_is_there() -> None:
    owner = this_process()
    assert owner.pid == os.getpid()
    assert not is_gone(owner)
    assert owner == this_process()


def test_a_process_that_ended_is_gone_also_while_nobody_has_taken_its_status() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        here = this_process()
        stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        owner = Owner(here.host, process.pid, f"{here.started.rpartition(':')[0]}:{stat[19]}")
        assert not is_gone(owner)
        assert process.stdin is not None
        process.stdin.close()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
        assert is_gone(owner)
    assert is_gone(owner)


@pytest.mark.parametrize("change", [{"started": "boot:1"}, {"started": "unknown"}, {"pid": 2**22 + 1}])
def test_a_pid_alone_is_not_an_owner(change: dict[str, object]) -> None:
    assert is_gone(dataclasses.replace(this_process(), **change))  # type: ignore[arg-type]


def test_an_owner_on_another_host_counts_as_there() -> None:
    assert not is_gone(Owner("elsewhere", 1, "boot:1"))


def test_an_owner_of_another_namespace_of_pids_counts_as_there_until_the_next_boot() -> None:
    here = this_process()
    boot, namespace, ticks = here.started.split(":")
    elsewhere = dataclasses.replace(here, pid=2**22 + 1, started=f"{boot}:{int(namespace) + 1}:{ticks}")
    assert not is_gone(elsewhere)
    assert is_gone(dataclasses.replace(elsewhere, started=f"before:{int(namespace) + 1}:{ticks}"))


def test_a_name_of_a_process_may_hold_anything(tmp_path: Path) -> None:
    program = tmp_path / ") S 1 ("
    program.symlink_to(sys.executable)
    with subprocess.Popen([program, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert process.poll() is None
        owner = Owner(this_process().host, process.pid, "x")
        assert is_gone(owner), "it is no error, and started otherwise"
        process.kill()
