"""A run with its files as one archive, and back: to keep it, or to move it to another machine.

An archive holds the log as exactly the lines that were written, so every hash of the chain stays what it was, and the
files that its events name. A fork's archive holds its whole log, its forebears' part included. Who imports trusts
nothing in it: everything is read and checked before anything is kept. The head of the chain is told on both sides, so
that a person can compare them.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bus import archive_file
from bus.archive_file import EVENTS, FILES, RUN, ArchiveReader, ArchiveWriter
from bus.chain import START, link, read_lines
from bus.codec import decode
from bus.envelope import Envelope
from bus.errors import BadArchive, BadEnvelope, Conflict, Damaged, NotFound, TooNew
from bus.references import files_of
from bus.store import Store

FORMAT: Literal[1] = 1

_RUN_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
"""As ids are made, and no more: a run's id is part of paths."""
_NAMED = 5


class Archived(BaseModel):
    """What `run.json` says."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal[1]
    run: str = Field(pattern=rf"^{_RUN_ID}\z")
    events: int = Field(ge=1)
    head: str = Field(pattern=r"^[0-9a-f]{64}\z")
    """Hash of the last event."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A whole run in an archive that has been checked, or written."""

    path: Path
    run: str
    events: int
    head: str
    files: int
    bytes: int
    """Of all its files."""


async def export_run(store: Store, run: str, path: Path) -> Contents:
    """Write a run as it stands now into a new file.

    Raises `Conflict` where the path is taken, `NotFound` for a run or a file of it that is not there, `BadArchive` for
    what is too large, `Damaged`, `TooNew`, `StorageFailed`.
    """
    events, head = await store.log.head(run)
    async for last in store.log.read(run, events, events):
        if last.correlation_id == run:
            break
    else:
        raise NotFound(f"run {run!r} has no event of its own yet: there is nothing to export")
    needed: set[str] = set()
    known: set[str] = set()
    total, digest = 0, START
    with ArchiveWriter(path) as archive:
        archive.add(RUN, Archived(format=FORMAT, run=run, events=events, head=head).model_dump_json().encode())
        with archive.events() as member:
            async for line in store.log.lines(run, 1, events):
                digest = link(digest, line)
                total += len(line) + 1
                if len(line) > archive_file.MOST_LINE_BYTES or total > archive_file.MOST_BYTES:
                    raise BadArchive(f"run {run!r} is too large for an archive: {total:,} bytes of events")
                member.write(line + b"\n")
                _note_files(_decoded(run, line), needed, known)
        if digest.hex() != head:
            raise Damaged(f"run {run!r} is not as it was written: `swarm log {run} --check-chain` tells where")
        there = await store.files.has(sorted(known - needed))
        files = sorted(needed | {sha256 for sha256, is_there in there.items() if is_there})
        size = 0
        for sha256 in files:
            data = await store.files.get(sha256)
            size += len(data)
            if len(data) > archive_file.MOST_FILE_BYTES:
                raise BadArchive(f"the file {sha256} is too large for an archive: {len(data):,} bytes")
            archive_file.check_bounds(len(files), size)
            archive.add(FILES + sha256, data)
        archive.publish()
    return Contents(path, run, events, head, len(files), size)


def check_archive(path: Path, look: Callable[[Envelope], None] = lambda _: None) -> Contents:
    """Read a whole archive, keeping nothing, and return what it holds if all of it is as an export makes it.

    `look` is called with each event, and may raise `BadArchive`. Raises `BadArchive`, `NotFound` where there is no such
    file, `TooNew`.
    """
    with ArchiveReader(path) as archive:
        said = _said(archive, path)
        needed: set[str] = set()
        known: set[str] = set()
        digest, length, ids = START, 0, _Ids(path, said.run)
        for envelope, line in _events(archive, path):
            digest, length = link(digest, line), length + 1
            ids.look(envelope)
            _note_files(envelope, needed, known)
            look(envelope)
        ids.end()
        if (length, digest.hex()) != (said.events, said.head):
            raise BadArchive(
                f"{path}: it says that it holds {said.events} events with the head {said.head}; "
                f"it holds {length} with the head {digest.hex()}"
            )
        _refuse_any(path, sorted(needed - archive.files.keys()), "misses files that its events name")
        _refuse_any(path, sorted(archive.files.keys() - known), "holds files that none of its events names")
        for sha256 in archive.files:
            archive.check(sha256)
        return Contents(path, said.run, length, said.head, len(archive.files), sum(archive.files.values()))


async def import_run(store: Store, contents: Contents) -> Contents:
    """Take in the run of an archive that was checked; it is read-only until it is forked.

    Its events are written in one transaction, after its files. Raises `Conflict` where a run of this id exists;
    `BadArchive` where the file is another by now; `StorageFailed`.
    """
    try:
        same = await store.log.head(contents.run) == (contents.events, contents.head)
    except NotFound:
        same = None
    if same is not None:
        raise Conflict(
            f"there is a run {contents.run} already, "
            + ("the same as this one: nothing is to do." if same else "another state of it.")
            + f" `swarm rm {contents.run}` removes the one that is here."
        )
    with ArchiveReader(contents.path) as archive:
        if _said(archive, contents.path).head != contents.head:
            raise BadArchive(f"{contents.path} was changed while it was read")
        for sha256 in archive.files:
            await store.files.put(archive.read(sha256))
            await asyncio.sleep(0)  # a store may keep a small file without giving way
        await store.log.adopt(contents.run, _Lines(archive, contents))
    return contents


class _Lines:
    """The lines of an archive that was checked, as often as they are asked for; still the same ones."""

    def __init__(self, archive: ArchiveReader, contents: Contents) -> None:
        self._archive = archive
        self._contents = contents

    def __iter__(self) -> Iterator[bytes]:
        digest = START
        for line in self._archive.lines():
            digest = link(digest, line)
            yield line
        if digest.hex() != self._contents.head:
            raise BadArchive(f"{self._contents.path} was changed while it was read")


class _Ids:
    """Whose events these are: a fork's log begins with its forebears', one after the other, and ends with its own."""

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        self._run = run
        self._before: set[str] = set()
        self._now = ""

    def look(self, envelope: Envelope) -> None:
        """Raise `BadArchive` for an event that cannot stand here."""
        run = envelope.correlation_id
        if run == self._now:
            return
        if run in self._before or self._now == self._run or not re.fullmatch(_RUN_ID, run):
            raise BadArchive(
                f"{self._path}: the event at position {envelope.sequence} is of run {run[:100]!r}, "
                f"those before it of {self._now!r}"
            )
        self._before.add(run)
        self._now = run

    def end(self) -> None:
        """Raise `BadArchive` unless the last event was the run's own."""
        if self._now != self._run:
            raise BadArchive(f"{self._path}: it says that it holds run {self._run}; its events are of {self._now!r}")


def _said(archive: ArchiveReader, path: Path) -> Archived:
    text = archive.run()
    try:
        return Archived.model_validate_json(text)
    except ValidationError as error:
        faults = error.errors()
        if any(each["loc"] == ("format",) and isinstance(each["input"], int) for each in faults):
            raise TooNew(f"{path} was written by another version of eventswarm; use that one to read it") from error
        raise BadArchive(f"{path}: {RUN}: {'.'.join(map(str, faults[0]['loc']))}: {faults[0]['msg']}") from error


def _events(archive: ArchiveReader, path: Path) -> Iterator[tuple[Envelope, bytes]]:
    try:
        yield from read_lines(archive.lines())
    except BadEnvelope as error:
        raise BadArchive(f"{path}: {EVENTS}: {error}") from error


def _note_files(envelope: Envelope, needed: set[str], known: set[str]) -> None:
    """Add the hashes that an event names: those of files as they are, and those of what they were before as well.

    What a file was before may never have been stored: a program wrote it, and another wrote it over.
    """
    for file in files_of(envelope.event):
        if file.sha256 is not None:
            needed.add(file.sha256)
        known.update(sha256 for sha256 in (file.sha256, getattr(file, "base", None)) if sha256 is not None)


def _decoded(run: str, line: bytes) -> Envelope:
    try:
        return decode(line)
    except BadEnvelope as error:
        raise Damaged(f"run {run!r}: an event cannot be read: {error}") from error


def _refuse_any(path: Path, hashes: list[str], what: str) -> None:
    if hashes:
        shown = ", ".join(hashes[:_NAMED]) + (", …" if len(hashes) > _NAMED else "")
        raise BadArchive(f"{path} {what} ({len(hashes)}): {shown}")
