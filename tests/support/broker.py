"""A real broker on a free port of this machine: mosquitto, started for a test and killed after it."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

START_S = 10.0


def program() -> str:
    """Return where mosquitto is; Debian keeps it off the path of ordinary users."""
    found = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert found, "mosquitto is missing: `make services` installs it, or: apt-get install mosquitto"
    return found


@dataclass
class Broker:
    """A broker that runs, or was killed."""

    folder: Path
    port: int
    tls: bool = False
    process: subprocess.Popen[bytes] | None = None
    lines: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it answers, without a user."""
        return self.address()

    def address(self, user: str = "", query: str = "") -> str:
        """Return its address for a user, with options such as `?ca=…`."""
        at = f"{user}@" if user else ""
        return f"{'mqtts' if self.tls else 'mqtt'}://{at}127.0.0.1:{self.port}{query}"

    async def start(self) -> None:
        """Start it, and wait until it answers."""
        log = (self.folder / "log").open("ab")
        command = [program(), "-c", str(self.folder / "mosquitto.conf")]
        with log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        async with asyncio.timeout(START_S):
            while not self._answers():
                assert self.process.poll() is None, (self.folder / "log").read_text()
                await asyncio.sleep(0.01)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def kill9(self) -> None:
        """End it as a power cut would."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None

    async def restart(self) -> None:
        """Start it again on the same port, after `kill9` or instead of it."""
        self.kill9()
        await self.start()

    def stop(self) -> None:
        """Halt it: it is there, and answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def broker(
    *,
    users: dict[str, str] | None = None,
    acl: str | None = None,
    persistence: bool = False,
    max_packet_size: int = 1 << 20,
    certificates: Path | None = None,
    client_certificates: bool = False,
    extra: Iterable[str] = (),
) -> AsyncIterator[Broker]:
    """Run a broker.

    `users`: password by name, else nobody has to log in. `acl`: text of an access list. `certificates`: a folder with
    `ca.crt`, `server.crt`, `server.key`, for TLS. `extra`: further lines of its configuration.
    """
    with TemporaryDirectory(prefix="swarm-broker-") as name:
        folder = Path(name)
        lines = [
            f"listener {(port := _free_port())} 127.0.0.1",
            f"allow_anonymous {'false' if users else 'true'}",
            "set_tcp_nodelay true",
            f"max_packet_size {max_packet_size}",
            "log_type error",
            "log_type warning",
            "log_type notice",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # else it drops its rights and cannot read a folder of root's
        if users:
            lines.append(f"password_file {_write_passwords(folder / 'passwords', users)}")
        if acl is not None:
            (folder / "acl").write_text(acl)
            lines.append(f"acl_file {folder / 'acl'}")
        if certificates is not None:
            lines += [
                f"cafile {certificates / 'ca.crt'}",
                f"certfile {certificates / 'server.crt'}",
                f"keyfile {certificates / 'server.key'}",
            ]
        if client_certificates:
            lines += ["require_certificate true"]
        if persistence:
            lines += [
                "persistence true",
                f"persistence_location {folder}/",
                "autosave_interval 1",
                "autosave_on_changes true",
            ]
        (folder / "mosquitto.conf").write_text("\n".join([*lines, *extra]) + "\n")
        one = Broker(folder, port, tls=certificates is not None)
        try:
            await one.start()
            yield one
        finally:
            one.kill9()


def _write_passwords(path: Path, users: dict[str, str]) -> Path:
    path.write_text("".join(f"{name}:{password}\n" for name, password in users.items()))
    path.chmod(0o600)
    hash_them = shutil.which("mosquitto_passwd")
    assert hash_them, "mosquitto_passwd is missing: apt-get install mosquitto"
    subprocess.run([hash_them, "-U", str(path)], check=True, capture_output=True)
    return path


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
