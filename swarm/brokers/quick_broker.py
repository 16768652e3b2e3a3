"""A broker for a try on this machine: mosquitto, reached from here alone, without login, with nothing kept.

It runs for as long as we do. Brokers for more than this machine are those of docs/deploy.md. Why none comes with us is
in docs/decisions/0016-no-broker-comes-with-us.md.
"""

import asyncio
import os
import re
import shutil
import socket
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from swarm.brokers.broker_config import loopback_config
from swarm.errors import MissingPart

START_S = 10.0
REMEDY = (
    "Install it: sudo apt-get install mosquitto (Debian, Ubuntu), brew install mosquitto (macOS). "
    "Or use a broker that runs somewhere already: any that speaks MQTT 5."
)
_KEEPER = 'printf %s "$1" | "$0" -c /dev/stdin & exec 2>/dev/null; read -r _; kill $!; wait $!'
"""Ends the broker when our end of the pipe closes, however we end; a signal at our death is not kept over the change of
user that mosquitto makes where root starts it."""
_RUNNING = re.compile(r"mosquitto version (\S+) running")


@dataclass(frozen=True, slots=True)
class QuickBroker:
    """A broker that answers."""

    url: str
    version: str
    process: Process

    async def lines(self) -> AsyncIterator[str]:
        """Yield what it reports, until it ends."""
        assert self.process.stderr is not None  # noqa: S101 - it was started so
        async for line in self.process.stderr:
            yield _told(line)


@asynccontextmanager
async def quick_broker(port: int) -> AsyncIterator[QuickBroker]:
    """Run mosquitto. Raises `MissingPart` where there is none, the port is taken, or it does not come up."""
    program = find_program()
    _check_port(port)
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", _KEEPER, program, loopback_config(port)),
        stdin=PIPE, stdout=DEVNULL, stderr=PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None  # noqa: S101 - it was started so
    try:
        yield QuickBroker(f"mqtt://127.0.0.1:{port}", await _version(process), process)
    finally:
        process.stdin.close()
        await process.wait()


def find_program() -> str:
    """Return where mosquitto is; Debian keeps it off the path of ordinary users. Raises `MissingPart`."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin"])
    found = shutil.which("mosquitto", path=path)
    if found is None:
        raise MissingPart("there is no mosquitto here, the broker that this command runs.", REMEDY)
    return found


def _check_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise MissingPart(
                f"port {port} of 127.0.0.1 cannot be used: {error.strerror}.",
                f"If a broker answers there already, use it: mqtt://127.0.0.1:{port}. Else name another: --port.",
            ) from error


async def _version(process: Process) -> str:
    """Wait until the broker says that it runs."""
    assert process.stderr is not None  # noqa: S101 - it was started so
    told: list[str] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(START_S):
            async for line in process.stderr:
                told.append(_told(line))
                if found := _RUNNING.search(told[-1]):
                    return found.group(1)
    raise MissingPart(
        f"mosquitto did not come up: {' / '.join(told) or 'it said nothing'}.", "It must be 2.0 or newer."
    )


def _told(line: bytes) -> str:
    """Return a line without the seconds since 1970 that mosquitto puts before it."""
    return re.sub(r"^\d+: ", "", line.decode(errors="replace").strip())
