"""What commands share that serve until they are stopped."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from swarm.commands.failures import STOPPED


@contextmanager
def until_stopped() -> Iterator[asyncio.Event]:
    """Give an event that Ctrl-C and SIGTERM set; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def stop() -> None:
        if stopping.is_set():
            os._exit(STOPPED)
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        yield stopping
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
