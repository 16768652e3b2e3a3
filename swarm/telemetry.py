"""Lines for operators, by structlog, on standard error: what went on beside the run. No state is read back from them.

The packages log to the standard library's logger `swarm`, as libraries do, so a program that calls them keeps its own
logging. The command line sets this up.
"""

import logging
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

    lines = _Lines(write)
    lines.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.ExtraAdder(),
                with_run,
                structlog.stdlib.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.KeyValueRenderer(
                    key_order=["timestamp", "level", "event", "run"], drop_missing=True
                ),
            ],
        )
    )
    logger = logging.getLogger("swarm")
    logger.handlers[:] = [lines]
    logger.setLevel(LEVELS[level])
    logger.propagate = False


class _Lines(logging.Handler):
    """Hands each finished line on."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        self._write(self.format(record))
