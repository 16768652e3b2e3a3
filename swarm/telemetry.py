"""Lines for operators, by structlog, on standard error: what went on beside the run. No state is read back from them.

The command line sets this up; `import swarm` never touches anybody's logging.
"""

from collections.abc import Callable, Mapping

import structlog
from structlog.typing import EventDict, WrappedLogger

from swarm.errors import UsageError

LEVELS: Mapping[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def set_up(write: Callable[[str], None], *, level: str = "warning", run: Callable[[], str] = lambda: "") -> None:
    """Send log lines of `level` and above to `write`, one text each; `run` says which run goes on.

    Raises `UsageError` for a level that is none.
    """
    if level not in LEVELS:
        raise UsageError(f"SWARM_LOG={level} is no level of logging (known: {', '.join(LEVELS)}).")

    def with_run(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        return {**line, "run": run()} if run() else line

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            with_run,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["timestamp", "level", "event", "run"], drop_missing=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: _Lines(write),
        cache_logger_on_first_use=False,
    )


class _Lines:
    """The end of structlog's chain: whatever the level, a finished line."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = self.msg = write
