"""Who may have which files: what a request names, what was brought, what was claimed; never what one only knows of."""

from dataclasses import replace

from agents.briefing import Briefing
from bus.envelope import Envelope
from bus.events import ResultSubmitted, ToolReturned
from bus.file_notes import Get, Put, note_of
from bus.file_store import MemoryFileStore
from bus.setup import FileChange, FileRef, RoleSetup
from swarm.files.rights import Claims, Rights, readable, run_watchers, unbacked
from swarm.files.shelf import Shelf
from swarm.files.uploads import Uploads, Whole

A, B, C, D, E, F = (letter * 64 for letter in "abcdef")


def ref(sha256: str) -> FileRef:
    return FileRef(path="p", sha256=sha256, bytes=1)


def returned(*changed: str | None, whole: str | None = None) -> ToolReturned:
    files = tuple(FileChange(path="p", base=F, sha256=sha256, bytes=1) for sha256 in changed)
    return ToolReturned(
        attempt=1,
        path=(0,),
        digest="",
        tool="t",
        arguments={},
        output="",
        files=files,
        whole=ref(whole) if whole else None,
    )


def test_a_lease_may_read_what_its_request_names_and_what_its_effects_made() -> None:
    event = Envelope("e", "/swarm/hub/h", returned(D, None, whole=E), "run", "2026-01-01T00:00:00Z")
    briefing = Briefing("", RoleSetup(model="m"), base={"p": ref(A)}, start={"p": ref(B)}, left={"p": ref(C)})
    assert readable(briefing) == {A, B, C}
    assert readable(replace(briefing, journal=(event,))) == {A, B, C, D, E}


def test_an_event_that_names_what_was_neither_given_nor_brought_is_found() -> None:
    result = ResultSubmitted(text="", files=(FileChange(path="p", base=None, sha256=A, bytes=1),))
    assert unbacked(result, [B]) == {A}
    assert unbacked(result, [A]) == frozenset()
    assert unbacked(returned(A, whole=B), [A]) == {B}


def test_rights_are_of_one_agent_under_one_lease_until_they_are_taken_back() -> None:
    rights = Rights(most=10)
    rights.give("ann/1", "l", [A])
    rights.give("ann/1", "l", [B])
    assert rights.may_get("ann/1", "l", A)
    assert rights.may_get("ann/1", "l", B)
    assert not rights.may_get("ann/1", "l", C)
    assert not rights.may_get("ann/2", "l", A)
    assert not rights.may_get("ann/1", "m", A)
    assert rights.room("ann/1", "l") == 10
    rights.take_back("ann/1", "l")
    assert not rights.may_get("ann/1", "l", A)
    assert rights.room("ann/1", "l") == 0


def test_claims_are_of_one_reader_and_only_the_newest_are_remembered() -> None:
    claims = Claims()
    for number in range(1_000):
        claims.give("ann/1", f"{number:064x}")
    claims.give(run_watchers("r"), A)
    assert claims.has("ann/1", f"{999:064x}")
    assert not claims.has("ann/1", f"{0:064x}")
    assert not claims.has("ann/1", A)
    assert not claims.has("run/r", A)  # a user may well be called so


async def test_a_hub_that_has_just_started_refuses_nothing_that_it_cannot_judge_yet() -> None:
    now, rights = 0.0, Rights()
    shelf = Shelf(MemoryFileStore(), rights, settles_s=20.0, clock=lambda: now)
    calls = note_of(Get("l", A, 0)), note_of(Put("l", A, 1, 0, b"x"))
    assert [await shelf.answer("ann/1", one) for one in calls] == [None, None]
    assert shelf.dropped == {"not known yet": 2}
    rights.give("ann/1", "l", [A])
    assert (await shelf.answer("ann/1", calls[0])).fields["why"].startswith("the hub does not have it")
    rights.take_back("ann/1", "l")
    now = 20.0
    assert [(await shelf.answer("ann/1", one)).kind for one in calls] == ["refused", "refused"]


def test_where_room_is_short_whoever_holds_most_makes_it() -> None:
    uploads = Uploads(most_bytes=10)
    uploads.take("ann/1", Put("l", A, 9, 0, b"aaa"), 100, 0.0)
    uploads.take("eve/1", Put("l", B, 9, 0, b"bbbbb"), 100, 0.0)
    uploads.take("ann/1", Put("l", A, 9, 3, b"aaa"), 100, 0.0)
    assert uploads.held == 6
    assert isinstance(uploads.take("ann/1", Put("l", A, 9, 6, b"aaa"), 100, 0.0), object)
    assert uploads.dropped == {"no room": 1, "another hash": 1}
    assert not isinstance(uploads.take("eve/1", Put("l", B, 9, 5, b"bbbb"), 100, 0.0), Whole)
