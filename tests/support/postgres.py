"""A real PostgreSQL server on a free port of this machine, run as an ordinary user: it refuses root.

One for each process that runs tests, started when it is first wanted; a test gets it without tables of ours.
"""

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import pytest

OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}


def programs() -> Path:
    """Return the folder of the server's programs; where there are none, the test is skipped (or fails in CI)."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    found = shutil.which("initdb", path=os.pathsep.join([*map(str, reversed(folders)), os.environ.get("PATH", "")]))
    if found is None:
        pytest.fail("PostgreSQL is not installed: apt-get install postgresql")
    return Path(found).resolve().parent


class Postgres:
    """A server with its own folder. `fsync`: what it acknowledges outlives a crash of the machine, at a price."""

    def __init__(self, *, fsync: bool = False) -> None:
        self._programs = programs()
        self._folder = Path(tempfile.mkdtemp(prefix="swarm-pg-"))
        self._as = {}
        if os.getuid() == 0:
            user = next(it for it in pwd.getpwall() if it.pw_name in ("postgres", "nobody"))
            self._as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            os.chown(self._folder, user.pw_uid, user.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"postgresql://swarm@127.0.0.1:{self.port}/postgres"
        self._run("initdb", "-D", str(self._folder / "data"), "-U", "swarm", "-A", "trust", "-E", "UTF8", "-N",
                  "--locale=C")  # fmt: skip
        access = self._folder / "data/pg_hba.conf"
        access.write_text(f"host all guarded 127.0.0.1/32 scram-sha-256\n{access.read_text()}")
        options = {**OPTIONS, "port": str(self.port), "unix_socket_directories": str(self._folder)}
        options["fsync"] = "on" if fsync else "off"
        with (self._folder / "data/postgresql.conf").open("a") as file:
            file.writelines(f"{name} = '{value}'\n" for name, value in options.items())
        self._lifeline = self._watch()
        self.start()

    def start(self) -> None:
        self._control("start", "-l", str(self._folder / "log"))

    def stop(self, mode: str = "fast") -> None:
        """Stop it: "fast" ends sessions, "immediate" is as good as a crash."""
        self._control("stop", "-m", mode)

    def restart(self, mode: str = "fast") -> None:
        self._control("restart", "-m", mode, "-l", str(self._folder / "log"))

    def pause(self) -> None:
        """Stop (SIGSTOP) the server and all its sessions."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def sql(self, statement: str) -> str:
        """Run statements as the owner of the server; return what they print."""
        return self._run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", statement, self.url)

    def clean(self) -> None:
        """End all sessions, and drop what is ours."""
        self.sql(
            "SET client_min_messages = error; SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid();"
            "DROP SCHEMA IF EXISTS eventswarm CASCADE"
        )

    def close(self) -> None:
        self.go_on()
        self._lifeline.communicate()

    def _watch(self) -> subprocess.Popen[bytes]:
        """Start what stops the server and removes its folder when we end, however we do: workers of xdist just exit."""
        stop = f"{self._programs / 'pg_ctl'} -D {self._folder / 'data'} -w stop -m immediate"
        return subprocess.Popen(
            ["sh", "-c", f"cat; {stop}; cd /; rm -rf {self._folder}"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            cwd=self._folder, **self._as,
        )  # fmt: skip

    def _signal(self, number: signal.Signals) -> None:
        try:
            main = int((self._folder / "data/postmaster.pid").read_text().splitlines()[0])
        except FileNotFoundError:
            return
        children = subprocess.run(["pgrep", "-P", str(main)], capture_output=True, text=True, check=False).stdout
        for pid in [main, *map(int, children.split())]:
            with suppress(ProcessLookupError):  # one of its children has just ended
                os.kill(pid, number)

    def _control(self, what: str, *more: str, check: bool = True) -> None:
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-w", "-t", "60", what, *more, check=check)

    def _run(self, program: str, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            cwd=self._folder, env={"PATH": os.environ["PATH"], "LC_ALL": "C"}, **self._as,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{program}: {done.stdout}"
        return done.stdout


@cache
def server() -> Postgres:
    """Return this process's server, with fsync off: for what must be right, not what must last."""
    started = Postgres()
    atexit.register(started.close)
    return started


def clean_url() -> str:
    """Return the URL of a database without tables of ours."""
    server().clean()
    return server().url
