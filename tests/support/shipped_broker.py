"""mosquitto under the configuration that we ship, as it stands but for its port and, for root's folders, its user."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.command import ROOT

START_S = 10


def program(name: str) -> str:
    """Return where a program is; Debian keeps daemons off the path of ordinary users."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert found, f"{name} is missing: apt-get install mosquitto"
    return found


def make_passwords(path: Path, users: Iterable[str]) -> dict[str, str]:
    """Write mosquitto's file of passwords, and return them by user."""
    passwords = {user: f"of-{user}-only" for user in users}
    path.write_text("".join(f"{user}:{password}\n" for user, password in passwords.items()))
    path.chmod(0o600)
    subprocess.run([program("mosquitto_passwd"), "-U", str(path)], check=True, capture_output=True)
    return passwords


def make_certificates(folder: Path) -> None:
    """Carry out the `openssl` commands of docs/deploy.md, as they stand there, for a broker on this machine."""
    page = (ROOT / "docs/deploy.md").read_text()
    (block,) = [part.partition("```")[0] for part in page.split("```sh\n")[1:] if part.startswith("BROKER=")]
    made = subprocess.run(
        ["bash", "-euc", block], cwd=folder, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "BROKER": "localhost"},
    )  # fmt: skip
    assert made.returncode == 0, made.stderr


@contextmanager
def running(folder: Path) -> Iterator[int]:
    """Run mosquitto with `folder`/mosquitto.conf, and yield its port."""
    port = free_port()
    config = (folder / "mosquitto.conf").read_text()
    assert "\nlistener 8883\n" in config
    config = config.replace("\nlistener 8883\n", f"\nlistener {port} localhost\n")
    if os.geteuid() == 0:
        config += "user root\n"  # else it could not read a folder that is root's alone
    (folder / "on-this-port.conf").write_text(config)
    log = folder / "log"
    with log.open("wb") as stream:
        broker = subprocess.Popen(
            [program("mosquitto"), "-c", str(folder / "on-this-port.conf")], stdout=stream, stderr=stream
        )
    try:
        wait_until_open(port, broker, log)
        yield port
    finally:
        broker.kill()
        broker.wait()


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_until_open(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait until somebody answers on the port of a process."""
    for _ in range(START_S * 20):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
            break
    pytest.fail(f"the broker did not come up: {log.read_text()}")
