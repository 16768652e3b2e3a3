"""A run's own clock: seconds of running time from a monotonic source, continued from the last record."""

import datetime as dt
import time
from collections.abc import Callable
from functools import lru_cache


class RunClock:
    """Counts running time from `elapsed_ms`; pauses, and the time between two processes, do not count."""

    def __init__(self, elapsed_ms: int = 0, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        """Seconds of the source, from nobody knows when."""
        self._zero = now() - elapsed_ms / 1000

    @property
    def elapsed_ms(self) -> int:
        """Running time so far, in whole milliseconds."""
        return int((self.now() - self._zero) * 1000)


def utc_now() -> str:
    """Return the time as RFC 3339 wants it, in UTC, to the millisecond."""
    second, ms = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{_second(second)}.{ms:03}Z"


@lru_cache(maxsize=1)
def _second(since_1970: int) -> str:
    """Write a second once: all that is said in it has its time."""
    return dt.datetime.fromtimestamp(since_1970, dt.UTC).isoformat()[:19]
