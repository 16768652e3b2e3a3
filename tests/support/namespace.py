"""A host of its own on this machine: a network namespace, with a cable to ours that can be pulled. It takes root.

with host() as there:
    worker = await fleet.worker("far", under=there.under, bus=f"mqtt://{there.gateway}:{port}")
    there.pull()
"""

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Host:
    """A host. `gateway`: our address as it sees us."""

    name: str
    gateway: str
    cable: str

    @property
    def under(self) -> tuple[str, ...]:
        """What runs a command there."""
        return ("ip", "netns", "exec", self.name)

    def pull(self) -> None:
        """Pull its cable: what is sent is lost, and nobody is told."""
        _ip("link", "set", self.cable, "down")

    def plug(self) -> None:
        """Plug it in again."""
        _ip("link", "set", self.cable, "up")


@contextmanager
def host() -> Iterator[Host]:
    """Make a host. Where that is not allowed the test is skipped, with the reason."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces take root")
    mark = secrets.token_hex(3)
    number = int(mark, 16)
    net = f"10.{200 + number % 50}.{number // 50 % 250}"
    name, cable, far = f"swarm-{mark}", f"sw{mark}", f"sx{mark}"
    try:
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"`ip netns` is refused here: {getattr(error, 'stderr', error)}")
    try:
        _ip("link", "add", cable, "type", "veth", "peer", "name", far, "netns", name)
        _ip("addr", "add", f"{net}.1/24", "dev", cable)
        _ip("link", "set", cable, "up")
        _ip("-n", name, "addr", "add", f"{net}.2/24", "dev", far)
        for one in (far, "lo"):
            _ip("-n", name, "link", "set", one, "up")
        yield Host(name, f"{net}.1", cable)
    finally:
        _ip("netns", "del", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
