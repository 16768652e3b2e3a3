"""Notes of files: reading undoes writing; parts find together whatever becomes of them on the way."""

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus import wire
from bus.errors import BadEnvelope, Damaged, TooLarge
from bus.file_notes import (
    CHUNK_BYTES,
    MOST_BYTES,
    Chunk,
    Get,
    More,
    Put,
    Refused,
    Stored,
    note_of,
    read_answer,
    read_call,
)
from bus.file_parts import ASKED_FIRST_BYTES, WINDOW, Download, Upload
from bus.pubsub import Note
from bus.transport import Message
from swarm.files.uploads import Uploads, Whole

LEASE = "lease-1"
HASHES = st.binary(max_size=4).map(lambda data: hashlib.sha256(data).hexdigest())
NUMBERS = st.integers(0, MOST_BYTES // 2)
CHUNKS = st.binary(max_size=300)
UNDER = st.text("abc-_0", max_size=20)
CALLS = st.builds(Get, UNDER, HASHES, NUMBERS, st.booleans()) | st.builds(
    lambda under, sha256, size, offset, chunk, parcel: Put(
        under, sha256, size + offset + len(chunk), offset, chunk, parcel
    ),
    UNDER, HASHES, st.integers(0, 1_000), NUMBERS, CHUNKS, st.booleans(),
)  # fmt: skip
ANSWERS = (
    st.builds(Chunk, UNDER, HASHES, NUMBERS, NUMBERS, CHUNKS)
    | st.builds(More, UNDER, HASHES, NUMBERS)
    | st.builds(Stored, UNDER, HASHES)
    | st.builds(Refused, UNDER, HASHES, st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
)


def through_bytes(note: Note) -> Note:
    payload = wire.encode(Message(None, {"note": note.kind, **note.fields}), source="/swarm/x", note_id="1")
    fields = dict(wire.decode(payload).attachments)
    return Note(fields.pop("note"), fields)


@given(CALLS, st.sampled_from(["lease", "run"]))
def test_reading_undoes_writing_of_calls(call, under) -> None:
    assert read_call(through_bytes(note_of(call, under)), under) == call


@given(ANSWERS, st.sampled_from(["lease", "run"]))
def test_reading_undoes_writing_of_answers(answer, under) -> None:
    assert read_answer(through_bytes(note_of(answer, under)), under) == answer


def test_a_full_part_fits_into_a_message_of_the_bus() -> None:
    through_bytes(note_of(Put(LEASE, "0" * 64, CHUNK_BYTES, 0, b"\xff" * CHUNK_BYTES)))


def test_an_answer_is_no_call_and_a_call_no_answer() -> None:
    with pytest.raises(BadEnvelope, match="asks for no file"):
        read_call(note_of(Stored(LEASE, "0" * 64)))
    with pytest.raises(BadEnvelope, match="answers for no file"):
        read_answer(note_of(Get(LEASE, "0" * 64, 0)))


# Parts


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def part(data: bytes, offset: int) -> Chunk:
    return Chunk(LEASE, hashlib.sha256(data).hexdigest(), len(data), offset, data[offset : offset + CHUNK_BYTES])


SIZES = st.sampled_from([0, 1, ASKED_FIRST_BYTES, ASKED_FIRST_BYTES + 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 5])
FATES = st.lists(st.sampled_from(["lost", "once", "twice", "late"]), min_size=1, max_size=60)


class Way:
    """What becomes of messages, again and again from the beginning; in the end each arrives."""

    def __init__(self, fates: list[str]) -> None:
        self.fates = iter(fates)
        self.late: list[object] = []

    def carry(self, said: list) -> list:
        arrived: list = []
        for one in said:
            fate = next(self.fates, "once")
            if fate == "late":
                self.late.append(one)
            else:
                arrived += [one] * {"lost": 0, "once": 1, "twice": 2}[fate]
        if not arrived:
            arrived, self.late = self.late[::-1], []
        return arrived


@settings(max_examples=100)
@given(SIZES, FATES)
def test_a_download_is_whole_whatever_becomes_of_its_parts(size: int, fates: list[str]) -> None:
    data, there, back = content(size), Way(fates), Way(fates[::-1])
    download = Download(hashlib.sha256(data).hexdigest())
    for _ in range(1_000):
        if download.complete:
            break
        asked = download.wanted()
        assert len(asked) <= WINDOW
        answers = back.carry([part(data, offset) for offset in there.carry(asked)])
        if not asked and not answers:
            download.again()
        for answer in answers:
            download.take(answer)
    assert download.whole() == data


@settings(max_examples=200)
@given(SIZES, FATES, FATES)
def test_an_upload_is_whole_whatever_becomes_of_its_parts(size: int, fates: list[str], others: list[str]) -> None:
    data, there, back, hub = content(size), Way(fates), Way(others), Uploads()
    sha256, upload, whole = hashlib.sha256(data).hexdigest(), Upload(size), None
    for turn in range(1_000):
        said = [Put(LEASE, sha256, size, at, data[at : at + length]) for at, length in upload.wanted()]
        assert len(said) <= WINDOW
        answers: list = []
        for put in there.carry(said):
            if whole is None:
                answer = hub.take("ann/1", put, 1 << 30, float(turn))
                whole = answer if isinstance(answer, Whole) else None
                answers.append(answer)
        if whole is not None:
            break
        heard = back.carry(answers)
        if not said and not heard:
            upload.again()
        for answer in heard:
            assert isinstance(answer, More)
            upload.take(answer.offset)
    assert whole is not None
    assert whole.data == data
    assert hub.held == 0


def test_a_download_takes_no_part_that_does_not_fit() -> None:
    data = content(2 * CHUNK_BYTES)
    download = Download(hashlib.sha256(data).hexdigest())
    for offset, chunk in ((1, data[1:10]), (0, data[:10]), (CHUNK_BYTES, b""), (2 * CHUNK_BYTES, data)):
        assert not download.take(Chunk(LEASE, download.sha256, len(data), offset, chunk))
    assert not download.complete


def test_a_download_is_bounded_and_of_one_size_and_has_its_hash() -> None:
    with pytest.raises(TooLarge, match="11 bytes; 10 are taken"):
        Download("0" * 64, most=10).take(Chunk(LEASE, "0" * 64, 11, 0, b"x" * 11))
    download = Download("0" * 64, size=3)
    with pytest.raises(Damaged, match="2 bytes, and 3 before"):
        download.take(Chunk(LEASE, "0" * 64, 2, 0, b"xx"))
    download.take(Chunk(LEASE, "0" * 64, 3, 0, b"xxx"))
    with pytest.raises(Damaged, match="other bytes than its hash"):
        download.whole()


def test_a_hub_that_says_the_same_again_has_no_news() -> None:
    upload = Upload(10 * CHUNK_BYTES)
    said = []
    for offset in (0, 0, CHUNK_BYTES, CHUNK_BYTES, 0, 0, CHUNK_BYTES):
        upload.again()
        upload.wanted()
        said.append(upload.take(offset))
    assert said == [True, False, True, False, True, False, True]


def test_a_hub_that_lost_what_it_had_is_brought_it_anew_and_that_is_counted() -> None:
    upload = Upload(10 * CHUNK_BYTES)
    upload.wanted()
    upload.take(3 * CHUNK_BYTES)
    upload.again()
    assert upload.wanted() == [(3 * CHUNK_BYTES, 0)]
    upload.take(0)
    assert upload.restarts == 1
    assert upload.wanted()[0] == (0, CHUNK_BYTES)
