"""What every store checks and computes alike: whose run it is, whose turn, and the chain of hashes through a log.

Each record's hash is taken of the one before and of its own line. So whoever changes, drops or swaps a record must
change every hash after it, and the last one can be kept elsewhere.
"""

import hashlib
from collections.abc import Container, Iterable, Iterator, Sequence

from bus.codec import decode, encode
from bus.envelope import Envelope
from bus.errors import BadEnvelope, Conflict, Damaged
from bus.event_log import Owner

START = bytes(32)
"""What stands before the first record."""
_UNFED = hashlib.sha256()
"""Copied for each record: OpenSSL looks the algorithm up for each that is made, which takes a third of a hash."""


def link(previous: bytes, line: bytes) -> bytes:
    """Return the hash of a record: SHA-256 of the hash before it and its canonical line."""
    hash_ = _UNFED.copy()
    hash_.update(previous)
    hash_.update(line)
    return hash_.digest()


def lines_after(position: int, records: Sequence[Envelope]) -> list[bytes]:
    """Encode records that are to stand after `position`.

    Raises `BadEnvelope` for one that cannot be written or whose `sequence` says another position.
    """
    lines = []
    for expected, record in enumerate(records, position + 1):
        if record.sequence != expected:
            raise BadEnvelope(f"event {record.id!r} says position {record.sequence}, it is to stand at {expected}")
        lines.append(encode(record))
    return lines


def read_lines(lines: Iterable[bytes]) -> Iterator[tuple[Envelope, bytes]]:
    """Yield lines from elsewhere with the envelopes they hold, which must stand at positions without gaps, from 1.

    Raises `BadEnvelope` for a line that is no event at its position, `TooNew`.
    """
    for position, line in enumerate(lines, 1):
        try:
            envelope = decode(line)
        except BadEnvelope as error:
            raise BadEnvelope(f"the event at position {position} cannot be read: {error}") from error
        if envelope.sequence != position:
            raise BadEnvelope(f"the event at position {position} says position {envelope.sequence}")
        yield envelope, line


def is_text(name: str) -> bool:
    """Tell whether a store can hold a name: no NUL, no half of a character. One that none can hold is of no run."""
    return "\0" not in name and name.encode("utf-8", "replace").decode() == name


def check_name(run: str) -> None:
    """Raise `Conflict` for a name that no run can have."""
    if not is_text(run):
        raise Conflict(f"a run cannot be named {run!r}: no store can hold that text (NUL, or half of a character)")


def check_head(run: str, head: str | None, seen: Container[str], length: int) -> None:
    """Raise `Damaged` unless a hash that was kept elsewhere is among those of a chain."""
    if head is not None and head not in seen:
        raise Damaged(
            f"run {run!r}: none of its {length} events has the hash {head}: its end was cut, or it was written anew"
        )


def check_turn(run: str, *, owned: int | None, length: int, epoch: int, expected: int) -> None:
    """Raise `Conflict` unless an append fits a run as it stands. `owned`: its owner's epoch, None without owner."""
    if owned is None:
        raise Conflict(f"run {run!r} has no owner: take it before writing to it")
    if owned != epoch:
        raise Conflict(f"run {run!r} is at epoch {owned}, not {epoch}: it has another owner by now")
    if length != expected:
        raise Conflict(f"run {run!r} is at position {length}, not {expected}: somebody else wrote to it")


def check_owner(run: str, owner: Owner | None, seen: Owner | None) -> None:
    """Raise `Conflict` unless a run's owner is still the one that was seen."""
    if owner != seen:
        raise Conflict(f"run {run!r} belongs to {owner} by now, not to {seen}")


def read_only(run: str) -> Conflict:
    """Return why an imported run has no owner."""
    return Conflict(f"run {run!r} was imported and is read-only: fork it to go on from any of its positions")
