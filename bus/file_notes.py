"""The notes by which files go over the bus, read strictly: pure.

Whoever wants a file asks for it chunk by chunk, and whoever brings one sends it so; a hub only answers. Each note names
what it is *under*: the lease by which an agent may do so (field `lease`), or a client's run (field `run`).

    get {sha256, offset}                  -> chunk {sha256, bytes, offset, chunk}  | refused {sha256, why}
    put {sha256, bytes, offset, chunk}    -> more {sha256, offset} | stored {sha256} | refused {sha256, why}

`bytes` is the size of the whole, `chunk` base64 of its part at `offset`, `more.offset` up to where the hub has all. A
`put` with an empty chunk asks where to go on. With `parcel` it brings what a claim stands for (`bus/parcels.py`), which
no event names; with `parcel` a `get` asks for what was claimed to us.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Any, Literal

from bus.errors import BadEnvelope
from bus.pubsub import Note

CHUNK_BYTES = 128 * 1024
"""The most that a note carries of a file; all chunks but the last have as many."""
MOST_BYTES = 256 * 1024 * 1024
"""The largest file that goes over the bus."""
KINDS = frozenset({"get", "put", "chunk", "more", "stored", "refused"})

Under = Literal["lease", "run"]
"""The field that says by what right a file is asked for or brought."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST_UNDER = 256
_LONGEST_WHY = 1_000
_LONGEST_CHUNK = (CHUNK_BYTES + 2) // 3 * 4


@dataclass(frozen=True, slots=True)
class Get:
    """A part of a file is wanted."""

    under: str
    sha256: str
    offset: int
    parcel: bool = False


@dataclass(frozen=True, slots=True)
class Put:
    """A part of a file is brought; an empty one asks what is missing."""

    under: str
    sha256: str
    size: int
    offset: int
    chunk: bytes = b""
    parcel: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """A part of a file, as it was asked for."""

    under: str
    sha256: str
    size: int
    offset: int
    chunk: bytes


@dataclass(frozen=True, slots=True)
class More:
    """All of a file is there up to an offset, where to go on."""

    under: str
    sha256: str
    offset: int


@dataclass(frozen=True, slots=True)
class Stored:
    """A file is there as a whole."""

    under: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A file is not given, or not taken. Not `held`: the lease or run is not theirs any more, whatever the file."""

    under: str
    sha256: str
    why: str
    held: bool = True


Call = Get | Put
Answer = Chunk | More | Stored | Refused


def note_of(value: Call | Answer, under: Under = "lease") -> Note:
    """Return the note that says a call or an answer."""
    fields: dict[str, Any] = {under: value.under, "sha256": value.sha256}
    match value:
        case Get(offset=offset, parcel=parcel):
            fields |= {"offset": offset} | ({"parcel": True} if parcel else {})
        case Put(size=size, offset=offset, chunk=chunk, parcel=parcel):
            fields |= _part(size, offset, chunk) | ({"parcel": True} if parcel else {})
        case Chunk(size=size, offset=offset, chunk=chunk):
            fields |= _part(size, offset, chunk)
        case More(offset=offset):
            fields["offset"] = offset
        case Refused(why=why, held=held):
            fields |= {"why": why[:_LONGEST_WHY]} | ({} if held else {"held": False})
        case Stored():
            pass
    return Note(type(value).__name__.lower(), fields)


def read_call(note: Note, under: Under = "lease") -> Call:
    """Return what is asked of a hub. Raises `BadEnvelope` with what is wrong."""
    fields = note.fields
    right, sha256 = _right(note, under), _sha256(note)
    match note.kind:
        case "get":
            return Get(right, sha256, _number(note, "offset"), _parcel(note))
        case "put":
            put = Put(right, sha256, _number(note, "bytes"), _number(note, "offset"), _chunk(note), _parcel(note))
            if put.offset + len(put.chunk) > put.size:
                raise _bad(note, "chunk", "it reaches beyond the file's bytes")
            return put
        case _:
            raise BadEnvelope(f"a note {note.kind[:40]!r} asks for no file, with {len(fields)} fields")


def read_answer(note: Note, under: Under = "lease") -> Answer:
    """Return what a hub answers. Raises `BadEnvelope` with what is wrong."""
    right, sha256 = _right(note, under), _sha256(note)
    match note.kind:
        case "chunk":
            return Chunk(right, sha256, _number(note, "bytes"), _number(note, "offset"), _chunk(note))
        case "more":
            return More(right, sha256, _number(note, "offset"))
        case "stored":
            return Stored(right, sha256)
        case "refused":
            why = note.fields.get("why")
            held = note.fields.get("held") is not False
            return Refused(right, sha256, why[:_LONGEST_WHY] if isinstance(why, str) else "", held)
        case _:
            raise BadEnvelope(f"a note {note.kind[:40]!r} answers for no file")


def check_sha256(sha256: object) -> str | None:
    """Return the hash if it is one, in small hexadecimal digits."""
    return sha256 if isinstance(sha256, str) and _SHA256.fullmatch(sha256) else None


def _part(size: int, offset: int, chunk: bytes) -> dict[str, Any]:
    return {"bytes": size, "offset": offset, "chunk": base64.b64encode(chunk).decode("ascii")}


def _right(note: Note, under: Under) -> str:
    right = note.fields.get(under, "")
    if not isinstance(right, str) or len(right) > _LONGEST_UNDER:
        raise _bad(note, under, f"a text of at most {_LONGEST_UNDER} characters is wanted")
    return right


def _sha256(note: Note) -> str:
    sha256 = check_sha256(note.fields.get("sha256"))
    if sha256 is None:
        raise _bad(note, "sha256", "a hash in small hexadecimal digits is wanted")
    return sha256


def _number(note: Note, name: str) -> int:
    number = note.fields.get(name)
    if type(number) is not int or not 0 <= number <= MOST_BYTES:
        raise _bad(note, name, f"a whole number from 0 to {MOST_BYTES:,} is wanted")
    return number


def _parcel(note: Note) -> bool:
    parcel = note.fields.get("parcel", False)
    if not isinstance(parcel, bool):
        raise _bad(note, "parcel", "true or false is wanted")
    return parcel


def _chunk(note: Note) -> bytes:
    text = note.fields.get("chunk")
    if not isinstance(text, str) or len(text) > _LONGEST_CHUNK:
        raise _bad(note, "chunk", f"base64 of at most {CHUNK_BYTES:,} bytes is wanted")
    try:
        chunk = binascii.a2b_base64(text.encode("ascii"), strict_mode=True) if text else b""
    except ValueError as error:  # binascii.Error is one; so is what is not ASCII
        raise _bad(note, "chunk", f"it is not base64 ({str(error)[:80]})") from error
    if len(chunk) > CHUNK_BYTES:
        raise _bad(note, "chunk", f"it has more than {CHUNK_BYTES:,} bytes")
    return chunk


def _bad(note: Note, field: str, why: str) -> BadEnvelope:
    return BadEnvelope(f"bad note {note.kind[:40]!r}: {field}: {why}")
