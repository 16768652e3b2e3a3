"""Recordings: what of a run's log is kept to answer for its models later, and how a role spoke with them.

A recording is a file of events as lines of JSON: the log of a run, or of several one after the other, as `swarm log RUN
--json` prints it. Of a log only what answers requests is written, without the places of the machine it ran on.
"""

import fcntl
import json
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from agents.canonical import sha256_hex
from agents.completions.prices import FREE
from agents.conversation.recording import KEPT, Recording
from agents.models.recorded import load, read_events
from bus.codec import encode
from bus.envelope import Envelope
from bus.events import GoalSubmitted
from swarm.errors import MissingPart
from swarm.preparation.model_choice import Choice, is_recorded, split_model
from swarm.scenario.model import RoleModel


def files_of(choices: Mapping[str, Choice], folder: Path) -> dict[str, Path]:
    """Return the file of each role that has a recorded model; `folder` is the scenario's."""
    return {role: folder / split_model(one.model)[1] for role, one in choices.items() if is_recorded(one.model)}


def opened(path: Path, *, may_be_new: bool = False, behind: Iterable[Envelope] = ()) -> Recording:
    """Read a recording; an empty one where the file is not there but may come to be.

    `behind`: a log whose answers it has given by now. Raises `ModelUnavailable`.
    """
    recording = Recording(()) if may_be_new and not path.exists() else load(path)
    recording.pass_over(behind)
    return recording


def played(model: str, role: str, recording: Recording) -> RoleModel:
    """Return a recorded model for a role: it costs nothing."""
    return as_recorded(RoleModel(model, price=FREE), role, recording)


def as_recorded(model: RoleModel, role: str, recording: Recording) -> RoleModel:
    """Return a model with what shapes a role's requests as it was for the recorded one, else they would be others."""
    was = recording.roles.get(role)
    return model if was is None else replace(model, dialogue=was.dialogue, window=was.window)


def kept(log: Iterable[Envelope]) -> list[Envelope]:
    """Return what a recording needs of a log."""
    return [_without_places(envelope) for envelope in log if isinstance(envelope.event, KEPT)]


def additions(log: Sequence[Envelope], recording: Recording, roles: Collection[str]) -> list[Envelope]:
    """Return what a recording lacks of a log: the attempts of these roles that it could not have answered to their end.

    Each is added whole, for what is asked later in it is put together from what was asked before. Takes the answers
    out of `recording`.
    """
    missing = recording.missing(log, roles)
    return [
        envelope
        for envelope in kept(log)
        if missing
        and (
            isinstance(envelope.event, GoalSubmitted)
            or (envelope.subject, getattr(envelope.event, "attempt", 0)) in missing
        )
    ]


def write(path: Path, events: Iterable[Envelope], *, add: bool = False) -> None:
    """Write a recording, or `add` to one. It is always whole: it takes the old one's place at once, or not at all.

    Raises `MissingPart`.
    """
    with _alone_at(path):
        before = path.read_bytes() if add and path.exists() else b""
        _replace(path, before + b"\n" * (not before.endswith(b"\n") and bool(before)) + _lines(events))


def write_beside(path: Path, events: Sequence[Envelope], *, writer: str, notes: Path) -> None:
    """Write a recording anew, beside what others who have the same `notes` wrote into it.

    `notes`: a folder that says which runs of a recording are whose; what it says of none is dropped. Raises
    `MissingPart`.
    """
    with _alone_at(path):
        note = notes / f"{sha256_hex(os.fsencode(path.resolve()))}.json"
        runs: dict[str, list[str]] = json.loads(note.read_bytes()) if note.exists() else {}
        runs[writer] = sorted({envelope.correlation_id for envelope in events})
        others = {run for who, its in runs.items() if who != writer for run in its}
        kept_ = [one for one in read_events(path) if one.correlation_id in others] if others else []
        _replace(path, _lines([*kept_, *events]))
        notes.mkdir(exist_ok=True)
        note.write_text(json.dumps(runs))


def _lines(events: Iterable[Envelope]) -> bytes:
    return b"".join(encode(envelope) + b"\n" for envelope in events)


@contextmanager
def _alone_at(path: Path) -> Iterator[None]:
    """Let nobody else write a recording meanwhile, so that two who add at once both do. Raises `MissingPart`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise MissingPart(f"the recording {path} cannot be written: {error.strerror}.") from error


def _replace(path: Path, data: bytes) -> None:
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)  # readable like any file of a project; mkstemp makes it the person's alone
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _without_places(envelope: Envelope) -> Envelope:
    """Return an event without the folders of the machine it was recorded on, which mean nothing on another."""
    event = envelope.event
    if not isinstance(event, GoalSubmitted):
        return envelope
    setup = event.setup.model_copy(update={"folder": ".", "python": None})
    return replace(envelope, event=event.model_copy(update={"setup": setup, "out": ""}))
