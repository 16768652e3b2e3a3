"""What our layers raise, in the terms of `swarm.errors`: one table for the command line and for programs."""

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from swarm.errors import MissingPart, ScenarioError, SwarmError, UsageError

_SURROUNDINGS = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO,
    errno.EMFILE, errno.ENFILE, errno.ENOMEM,
}  # fmt: skip
"""What the operating system refuses without any fault of ours."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an error means for people. `kind`: its name in `--json`; `missing`: a part is, else it is bad usage."""

    kind: str
    missing: bool
    reason: str
    remedy: str
    text: str
    """Reason and remedy together."""


def meaning_of(error: BaseException) -> Meaning | None:
    """Return what an error means that is raised on purpose or by the system around us; None: a bug, or a stranger's."""
    for kind, name, missing in _kinds():
        if isinstance(error, kind):
            reason = str(getattr(error, "reason", "") or error)
            return Meaning(name, missing, reason, getattr(error, "remedy", ""), str(error))
    if isinstance(error, OSError) and error.errno in _SURROUNDINGS:
        place = f"{error.filename}: " if error.filename else ""
        reason = f"{place}{os.strerror(error.errno)}"
        return Meaning("system", True, reason, "", reason)
    return None


def as_ours(error: BaseException) -> SwarmError | None:
    """Return an error, or the first that counts of a group, as a `SwarmError`; None where it is none of ours."""
    found = first_that_counts(error)
    if isinstance(found, SwarmError):
        return found
    meaning = meaning_of(found)
    if meaning is None:
        return None
    return MissingPart(meaning.reason, meaning.remedy) if meaning.missing else UsageError(meaning.text)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors that a group holds, however deep, in their order; a single error is itself."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error


def first_that_counts(error: BaseException) -> BaseException:
    """Return the first error of a group that was raised on purpose, else its first; a single error is itself."""
    return min(leaves(error), key=lambda leaf: not isinstance(leaf, SwarmError))


def _kinds() -> Iterator[tuple[type[BaseException], str, bool]]:
    """Yield class, name, and whether a part is missing; the first that fits counts."""
    from agents.errors import ModelUnavailable, NoSuchModel, SandboxUnavailable  # noqa: PLC0415 - only an error needs them
    from bus.errors import (  # noqa: PLC0415 - likewise
        BadAddress,
        BadArchive,
        BusError,
        BusUnavailable,
        Conflict,
        Damaged,
        NotAllowed,
        NotFound,
        StorageFailed,
        TooNew,
    )

    yield ScenarioError, "scenario", False
    yield UsageError, "usage", False
    yield MissingPart, "missing_part", True
    yield NoSuchModel, "usage", False
    yield ModelUnavailable, "model", True
    yield SandboxUnavailable, "sandbox", True
    yield StorageFailed, "storage", True
    yield TooNew, "too_new", True
    yield Damaged, "damaged", True
    yield Conflict, "conflict", False
    yield NotFound, "not_found", False
    yield BadArchive, "archive", False
    yield BadAddress, "usage", False
    yield BusUnavailable, "bus", True
    yield NotAllowed, "bus", True
    yield BusError, "log", True
    yield SwarmError, "error", False
