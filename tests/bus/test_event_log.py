"""What holds for every event log; a new one joins `LOGS`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bus.chain import START, link
from bus.codec import encode
from bus.envelope import Envelope
from bus.errors import BadArchive, BadEnvelope, BusError, Conflict, Damaged, NotFound, TooNew
from bus.event_log import EventLog, Heartbeats, Mark, Owned, Owner
from bus.event_logs import EVENT_LOGS
from bus.event_logs.memory import MemoryEventLog
from bus.event_logs.postgres import PostgresEventLog
from bus.event_logs.sqlite import SqliteEventLog
from bus.events import ToolCalled
from tests.support.events import OWNER, RIVAL, record, records
from tests.support.postgres import clean_url

LOGS: dict[str, Callable[[Path], EventLog]] = {
    "memory": lambda _: MemoryEventLog(),
    "sqlite": SqliteEventLog,
    "postgres": lambda _: PostgresEventLog(clean_url()),
}
PARAMS = [pytest.param(name, marks=pytest.mark.services) if name == "postgres" else name for name in LOGS]


@pytest.fixture(params=PARAMS)
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventLog]:
    async with LOGS[request.param](tmp_path) as opened:
        yield opened


async def read(log: EventLog, run: str, start: int = 1, end: int | None = None) -> list[Envelope]:
    return [envelope async for envelope in log.read(run, start, end)]


async def begun(log: EventLog, run: str, length: int) -> int:
    """Create a run with `length` records and return its epoch."""
    epoch = await log.create(run, OWNER)
    await log.append(run, 0, epoch, records(1, length, run=run))
    return epoch


def test_the_suite_runs_over_every_log_we_ship() -> None:
    assert {name.split()[0] for name in LOGS} == set(EVENT_LOGS)


async def test_what_was_appended_is_read_in_order(log: EventLog) -> None:
    epoch = await log.create("run", OWNER)
    assert epoch == 1
    assert await read(log, "run") == []
    assert log.failure is None
    await log.append("run", 0, epoch, records(1, 2))
    await log.append("run", 2, epoch, [])
    await log.append("run", 2, epoch, records(3, 3))
    assert await read(log, "run") == records(1, 3)


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        (1, None, 1, 300),
        (250, None, 250, 300),
        (2, 4, 2, 4),
        (300, 900, 300, 300),
        (-5, 1, 1, 1),
        (301, None, 1, 0),
        (2**63, None, 1, 0),
    ],
)
async def test_any_stretch_can_be_read(log: EventLog, start: int, end: int | None, first: int, last: int) -> None:
    await begun(log, "run", 300)
    assert await read(log, "run", start, end) == records(first, last)


async def test_large_records_come_back_whole(log: EventLog) -> None:
    large = [
        record(n, ToolCalled(attempt=1, path=(n,), digest="d", tool="t", arguments={"text": "x" * 200_000}))
        for n in range(1, 8)
    ]
    epoch = await log.create("run", OWNER)
    await log.append("run", 0, epoch, large)
    assert await read(log, "run") == large


async def test_a_run_is_created_once(log: EventLog) -> None:
    await begun(log, "run", 2)
    with pytest.raises(Conflict, match="exists"):
        await log.create("run", RIVAL)
    assert len(await read(log, "run")) == 2


@pytest.mark.parametrize("expected", [0, 1, 3, 100])
async def test_an_append_at_another_position_is_a_conflict(log: EventLog, expected: int) -> None:
    epoch = await begun(log, "run", 2)
    with pytest.raises(Conflict, match=f"position 2, not {expected}"):
        await log.append("run", expected, epoch, records(expected + 1, expected + 1))
    assert await read(log, "run") == records(1, 2)


async def test_a_record_that_says_another_position_is_refused(log: EventLog) -> None:
    epoch = await begun(log, "run", 1)
    with pytest.raises(BadEnvelope, match="position 3, it is to stand at 2"):
        await log.append("run", 1, epoch, [record(3)])
    with pytest.raises(BadEnvelope):
        await log.append("run", 1, epoch, [record(2), record(2)])
    assert await read(log, "run") == records(1, 1)


async def test_a_batch_with_one_bad_record_leaves_nothing(log: EventLog) -> None:
    epoch = await begun(log, "run", 1)
    bad = record(3, ToolCalled(attempt=1, path=(1,), digest="d", tool="t", arguments={"a": "\ud800"}))
    with pytest.raises(BadEnvelope):
        await log.append("run", 1, epoch, [record(2), bad])
    assert await read(log, "run") == records(1, 1)


async def test_a_taken_run_fences_its_former_owner(log: EventLog) -> None:
    old = await begun(log, "run", 2)
    new = await log.take("run", RIVAL, previous=OWNER)
    assert new == old + 1
    with pytest.raises(Conflict, match="another owner"):
        await log.append("run", 2, old, [record(3)])
    await log.append("run", 2, new, [record(3)])
    assert await read(log, "run") == records(1, 3)


async def test_of_two_that_take_a_run_one_gets_it(log: EventLog) -> None:
    await begun(log, "run", 1)
    third = RIVAL.__class__("host-c", 300, "boot-3")
    takes = [log.take("run", owner, previous=OWNER) for owner in (RIVAL, third)]
    outcomes = await asyncio.gather(*takes, return_exceptions=True)
    assert sorted(map(type, outcomes), key=repr) == sorted([int, Conflict], key=repr)


async def test_a_released_run_has_no_owner_until_it_is_taken(log: EventLog) -> None:
    epoch = await begun(log, "run", 1)
    await log.release("run", epoch)
    assert (await log.runs())[0].owner is None
    with pytest.raises(Conflict):
        await log.append("run", 1, epoch, [record(2)])
    with pytest.raises(Conflict):
        await log.take("run", RIVAL, previous=OWNER)
    epoch = await log.take("run", RIVAL, previous=None)
    await log.append("run", 1, epoch, [record(2)])
    assert (await log.runs())[0].owner == RIVAL


async def test_who_is_no_longer_the_owner_releases_nothing(log: EventLog) -> None:
    old = await begun(log, "run", 1)
    new = await log.take("run", RIVAL, previous=OWNER)
    await log.release("run", old)
    await log.append("run", 1, new, [record(2)])
    assert (await log.runs())[0].owner == RIVAL


async def test_owned_runs_are_those_that_somebody_may_write(log: EventLog) -> None:
    released = await begun(log, "ended", 1)
    await log.release("ended", released)
    await begun(log, "mine", 1)
    await begun(log, "theirs", 1)
    epoch = await log.take("theirs", RIVAL, previous=OWNER)
    await begun(log, "gone", 1)
    await log.remove("gone", previous=OWNER)
    assert {one.run: (one.epoch, one.owner) for one in await log.owned()} == {
        "mine": (1, OWNER),
        "theirs": (epoch, RIVAL),
    }
    assert [one.run for one in await log.owned(besides=OWNER)] == ["theirs"]
    assert await log.owned(besides=RIVAL) == [Owned("mine", 1, OWNER)]


async def test_a_run_that_is_not_there_is_not_found(log: EventLog) -> None:
    for attempt in (
        log.append("none", 0, 1, [record(1)]),
        log.take("none", OWNER, previous=None),
        log.release("none", 1),
        log.head("none"),
        log.verify("none"),
        log.create("fork", OWNER, parent=("none", 0)),
        read(log, "none"),
    ):
        with pytest.raises(NotFound, match="none"):
            await attempt
    assert await log.runs() == []


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
async def test_names_that_a_store_cannot_hold_are_of_no_run(log: EventLog, name: str) -> None:
    with pytest.raises(Conflict, match="cannot be named"):
        await log.create(name, OWNER)
    with pytest.raises(Conflict, match="cannot be named"):
        await log.adopt(name, [])
    for attempt in (
        log.head(name),
        log.info(name),
        log.verify(name),
        log.take(name, OWNER, previous=None),
        log.release(name, 1),
        log.remove(name, previous=None),
        log.append(name, 0, 1, []),
        log.create("fork", OWNER, parent=(name, 0)),
        read(log, name),
    ):
        with pytest.raises(NotFound, match="there is no run"):
            await attempt
    assert await log.marks.newest(name, "us") is None
    log.marks.keep(Mark(name, 1, "us", b"of nothing"))
    await begun(log, "run", 1)


async def test_the_head_is_the_hash_over_all_lines(log: EventLog) -> None:
    epoch = await log.create("run", OWNER)
    assert await log.head("run") == (0, "0" * 64)
    digest = START
    for each in records(1, 5):
        await log.append("run", each.sequence - 1, epoch, [each])
        digest = link(digest, encode(each))
        assert await log.head("run") == (each.sequence, digest.hex())
    assert await log.verify("run") == 5


async def test_a_hash_that_was_kept_elsewhere_must_be_of_this_chain(log):
    epoch = await log.create("run", OWNER)
    await log.append("run", 0, epoch, records(1, 3))
    _, early = await log.head("run")
    await log.append("run", 3, epoch, records(4, 5))
    _, late = await log.head("run")
    assert [await log.verify("run", head=head) for head in (early, late)] == [5, 5]
    with pytest.raises(Damaged, match="its end was cut, or it was written anew"):
        await log.verify("run", head="ab" * 32)


async def test_runs_are_listed_newest_first(log: EventLog) -> None:
    await begun(log, "first", 3)
    await log.create("second", RIVAL)
    second, first = await log.runs()
    assert (first.run, first.epoch, first.length, first.owner) == ("first", 1, 3, OWNER)
    assert first.created == "2026-01-01T00:00:00Z"
    assert first.bytes == sum(len(encode(each)) for each in records(1, 3, run="first"))
    assert (second.run, second.length, second.bytes, second.owner, second.created) == ("second", 0, 0, RIVAL, "")
    assert [await log.info("first"), await log.info("second")] == [first, second]
    for name in ("third", "fir", ""):
        with pytest.raises(NotFound):
            await log.info(name)
    await log.remove("second", previous=RIVAL)
    with pytest.raises(NotFound):
        await log.info("second")


async def test_a_fork_reads_its_parent_up_to_where_it_left(log: EventLog) -> None:
    parent = await begun(log, "parent", 5)
    fork = await log.create("fork", RIVAL, parent=("parent", 3))
    assert await log.head("fork") == (3, (await head_at(log, "parent", 3)))
    await log.append("fork", 3, fork, records(4, 6, run="fork"))
    await log.append("parent", 5, parent, records(6, 6, run="parent"))
    expected = records(1, 3, run="parent") + records(4, 6, run="fork")
    assert await read(log, "fork") == expected
    assert await read(log, "fork", 3, 4) == expected[2:4]
    assert await read(log, "fork", 5) == expected[4:]
    assert await log.verify("fork") == await log.verify("parent") == 6
    assert (await log.head("fork"))[1] != (await log.head("parent"))[1]
    assert [info.length for info in await log.runs()] == [6, 6]


async def head_at(log: EventLog, run: str, position: int) -> str:
    digest = START
    async for envelope in log.read(run, 1, position):
        digest = link(digest, encode(envelope))
    return digest.hex()


async def test_a_fork_of_a_fork_reads_through_both(log: EventLog) -> None:
    await begun(log, "a", 4)
    b = await log.create("b", OWNER, parent=("a", 3))
    await log.append("b", 3, b, records(4, 6, run="b"))
    early = await log.create("early", OWNER, parent=("b", 2))
    await log.append("early", 2, early, records(3, 3, run="early"))
    late = await log.create("late", OWNER, parent=("b", 5))
    await log.append("late", 5, late, records(6, 6, run="late"))
    assert await read(log, "early") == records(1, 2, run="a") + records(3, 3, run="early")
    expected = records(1, 3, run="a") + records(4, 5, run="b") + records(6, 6, run="late")
    assert await read(log, "late") == expected
    assert [await log.verify(run) for run in ("early", "late")] == [3, 6]


async def test_a_fork_begins_where_its_parent_has_been(log: EventLog) -> None:
    await begun(log, "parent", 3)
    for position in (4, -1):
        with pytest.raises(NotFound, match=f"no position {position}"):
            await log.create("fork", OWNER, parent=("parent", position))
    fresh = await log.create("fresh", OWNER, parent=("parent", 0))
    await log.append("fresh", 0, fresh, records(1, 1, run="fresh"))
    assert await read(log, "fresh") == records(1, 1, run="fresh")


async def all_lines(log: EventLog) -> set[bytes]:
    return {line async for line in log.all_lines()}


def lines(first: int, last: int, *, run: str = "run") -> list[bytes]:
    return [encode(each) for each in records(first, last, run=run)]


@pytest.mark.parametrize(
    ("start", "end", "first", "last"), [(1, None, 1, 200), (3, 5, 3, 5), (199, 900, 199, 200), (201, None, 1, 0)]
)
async def test_lines_are_read_as_they_were_written(
    log: EventLog, start: int, end: int | None, first: int, last: int
) -> None:
    await begun(log, "run", 200)
    assert [line async for line in log.lines("run", start, end)] == lines(first, last)
    with pytest.raises(NotFound, match="none"):
        assert not [line async for line in log.lines("none")]


async def test_every_line_of_every_run_is_read(log: EventLog) -> None:
    assert await all_lines(log) == set()
    await begun(log, "a", 150)
    fork = await log.create("b", OWNER, parent=("a", 100))
    await log.append("b", 100, fork, records(101, 102, run="b"))
    assert await all_lines(log) == {*lines(1, 150, run="a"), *lines(101, 102, run="b")}


# removing


async def test_a_removed_run_is_gone_and_its_name_is_free(log: EventLog) -> None:
    epoch = await begun(log, "run", 3)
    await begun(log, "other", 2)
    await log.remove("run", previous=OWNER)
    assert [info.run for info in await log.runs()] == ["other"]
    for attempt in (
        read(log, "run"),
        log.head("run"),
        log.verify("run"),
        log.append("run", 3, epoch, [record(4)]),
        log.take("run", RIVAL, previous=None),
        log.create("fork", OWNER, parent=("run", 1)),
        log.remove("run", previous=OWNER),
    ):
        with pytest.raises(NotFound, match="no run 'run'"):
            await attempt
    assert await all_lines(log) == set(lines(1, 2, run="other"))
    await begun(log, "run", 1)
    assert await read(log, "run") == records(1, 1)


async def test_a_run_is_removed_only_from_the_owner_that_was_seen(log: EventLog) -> None:
    epoch = await begun(log, "run", 2)
    for seen in (None, RIVAL):
        with pytest.raises(Conflict, match="by now"):
            await log.remove("run", previous=seen)
    await log.append("run", 2, epoch, [record(3)])
    await log.release("run", epoch)
    with pytest.raises(Conflict, match="by now"):
        await log.remove("run", previous=OWNER)
    await log.remove("run", previous=None)
    assert await log.runs() == []


async def test_forks_keep_what_they_share_with_a_removed_parent(log: EventLog) -> None:
    await begun(log, "parent", 9)
    early = await log.create("early", OWNER, parent=("parent", 3))
    late = await log.create("late", OWNER, parent=("parent", 6))
    await log.append("early", 3, early, records(4, 4, run="early"))
    heads = [await log.head(run) for run in ("early", "late")]
    await log.remove("parent", previous=OWNER)
    assert [info.run for info in await log.runs()] == ["late", "early"]
    assert await read(log, "early") == records(1, 3, run="parent") + records(4, 4, run="early")
    assert await read(log, "late") == records(1, 6, run="parent")
    assert [await log.head(run) for run in ("early", "late")] == heads
    assert [await log.verify(run) for run in ("early", "late")] == [4, 6]
    await log.append("late", 6, late, records(7, 7, run="late"))
    assert await log.verify("late") == 7
    await begun(log, "parent", 1)  # the name is another's now
    assert (await read(log, "late"))[:6] == records(1, 6, run="parent")
    await log.remove("late", previous=OWNER)
    assert await all_lines(log) >= {*lines(1, 3, run="parent"), *lines(4, 4, run="early")}
    await log.remove("early", previous=OWNER)
    assert await all_lines(log) == set(lines(1, 1, run="parent"))


async def test_what_removed_runs_hold_goes_with_the_last_fork_that_needs_it(log: EventLog) -> None:
    await begun(log, "a", 5)
    b = await log.create("b", OWNER, parent=("a", 4))
    await log.append("b", 4, b, records(5, 8, run="b"))
    c = await log.create("c", OWNER, parent=("b", 6))
    await log.append("c", 6, c, records(7, 7, run="c"))
    d = await log.create("d", OWNER, parent=("b", 2))  # begins in what b has of a
    await log.append("d", 2, d, records(3, 3, run="d"))
    kept = records(1, 4, run="a") + records(5, 6, run="b") + records(7, 7, run="c")
    for run in ("b", "a"):
        await log.remove(run, previous=OWNER)
        assert await read(log, "c") == kept
        assert await log.verify("c") == 7
        assert await read(log, "d") == records(1, 2, run="a") + records(3, 3, run="d")
    await log.remove("c", previous=OWNER)
    assert await all_lines(log) == {*lines(1, 2, run="a"), *lines(3, 3, run="d")}
    await log.remove("d", previous=OWNER)
    assert await all_lines(log) == set()


async def test_a_run_is_removed_while_it_is_read(log: EventLog) -> None:
    await begun(log, "run", 300)
    reading = log.read("run")
    assert await anext(reading) == record(1)
    await log.remove("run", previous=OWNER)
    await begun(log, "other", 300)
    with suppress(NotFound):  # or it has it whole
        async for envelope in reading:
            assert envelope.correlation_id == "run"


# imported runs


async def test_an_adopted_run_is_exactly_its_lines_and_belongs_to_nobody(log: EventLog) -> None:
    await begun(log, "run", 150)
    written = [line async for line in log.lines("run")]
    written[1] = written[1].replace(b'"data":', b'"more": "than we know", "data":')
    digest = START
    for line in written:
        digest = link(digest, line)
    assert await log.adopt("copy", written) == (150, digest.hex())
    assert [line async for line in log.lines("copy")] == written
    assert await read(log, "copy") == records(1, 150)
    assert (await log.head("copy"), await log.verify("copy")) == ((150, digest.hex()), 150)
    copy, run = await log.runs()
    assert (copy.run, copy.imported, copy.owner, copy.length) == ("copy", True, None, 150)
    assert (copy.created, copy.bytes) == ("2026-01-01T00:00:00Z", sum(map(len, written)))
    assert not run.imported


async def test_an_adopted_run_is_read_only_until_it_is_forked(log: EventLog) -> None:
    await log.adopt("run", lines(1, 5))
    with pytest.raises(Conflict, match="imported and is read-only: fork it"):
        await log.take("run", OWNER, previous=None)
    with pytest.raises(Conflict):
        await log.append("run", 5, 1, [record(6)])
    fork = await log.create("fork", OWNER, parent=("run", 3))
    await log.append("fork", 3, fork, records(4, 4, run="fork"))
    await log.remove("run", previous=None)
    assert await read(log, "fork") == records(1, 3) + records(4, 4, run="fork")
    assert [info.imported for info in await log.runs()] == [False]


class Cut:
    """Lines that end in an error, as often as they are gone through."""

    def __iter__(self) -> Iterator[bytes]:
        yield from lines(1, 3)
        raise BadArchive("cut")


@pytest.mark.parametrize(
    ("bad", "error", "told"),
    [
        (lines(2, 3), BadEnvelope, "position 1 says position 2"),
        ([*lines(1, 2), *lines(2, 2)], BadEnvelope, "position 3 says position 2"),
        ([*lines(1, 1), b"{}"], BadEnvelope, "position 2 cannot be read"),
        ([*lines(1, 1), lines(2, 2)[0].replace(b".v1", b".v900")], TooNew, "v900"),
        (Cut(), BadArchive, "cut"),
    ],
)
async def test_of_lines_that_cannot_be_adopted_nothing_is_left(
    log: EventLog, bad: Iterable[bytes], error: type[BusError], told: str
) -> None:
    with pytest.raises(error, match=told):
        await log.adopt("run", bad)
    assert (await log.runs(), await all_lines(log)) == ([], set())
    await log.adopt("run", lines(1, 2))
    with pytest.raises(Conflict, match="exists"):
        await log.adopt("run", lines(1, 1))
    with pytest.raises(Conflict, match="exists"):
        await log.create("run", OWNER)
    assert await log.verify("run") == 2


# who is alive


async def test_an_owner_is_silent_until_it_is_heard_and_when_that_is_too_long_ago(log: EventLog) -> None:
    assert isinstance(log, Heartbeats)
    assert await log.silent([OWNER, RIVAL], 60) == {OWNER, RIVAL}
    await log.beat(OWNER)
    await log.beat(OWNER)
    assert await log.silent([OWNER, RIVAL], 60) == {RIVAL}
    assert await log.silent([OWNER], 60) == await log.silent([], 60) == set()
    assert await log.silent([OWNER], 0) == {OWNER}
    another = Owner(OWNER.host, OWNER.pid, "boot-9")  # the pid is another process's by now
    assert await log.silent([another, OWNER], 60) == {another}


async def test_many_writers_at_once_each_get_a_log_without_gaps(log: EventLog) -> None:
    async def write(run: str) -> None:
        epoch = await log.create(run, OWNER)
        for each in records(1, 20, run=run):
            await log.append(run, each.sequence - 1, epoch, [each])

    runs = [f"run-{number}" for number in range(20)]
    async with asyncio.TaskGroup() as group:
        for run in runs:
            group.create_task(write(run))
    for run in runs:
        assert await read(log, run) == records(1, 20, run=run)
        assert await log.verify(run) == 20


async def test_one_conflict_among_many_appends_fails_alone(log: EventLog) -> None:
    epochs = {run: await log.create(run, OWNER) for run in ("a", "b", "c")}
    outcomes = await asyncio.gather(
        log.append("a", 0, epochs["a"], records(1, 2, run="a")),
        log.append("b", 7, epochs["b"], records(8, 8, run="b")),
        log.append("a", 2, epochs["a"], records(3, 3, run="a")),
        log.append("c", 0, 99, records(1, 1, run="c")),
        log.append("a", 2, epochs["a"], records(3, 3, run="a")),
        log.append("c", 0, epochs["c"], records(1, 1, run="c")),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [type(None), Conflict, type(None), Conflict, Conflict, type(None)]
    assert [len(await read(log, run)) for run in ("a", "b", "c")] == [3, 0, 1]


async def test_a_reader_sees_what_is_appended_while_it_reads(log: EventLog) -> None:
    epoch = await begun(log, "run", 300)
    seen = 0
    async for envelope in log.read("run"):
        seen += 1
        assert envelope.sequence == seen
        if seen == 10:
            await log.append("run", 300, epoch, records(301, 310))
    assert seen == 310


STEPS = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.integers(0, 3),
        st.integers(-1, 1),
        st.sampled_from(["append"] * 6 + ["take", "remove", "fork", "adopt"]),
    ),
    max_size=25,
)


@pytest.mark.parametrize("name", ["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_a_store_does_what_the_one_in_memory_does(
    name: str, steps: list[tuple[str, int, int, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def outcomes(log: EventLog) -> list[object]:
        told: list[object] = []
        async with log:
            for run in "abc":
                await log.create(run, OWNER)
            for run, count, off, what in steps:
                try:
                    match what:
                        case "take":
                            told.append(await log.take(run, RIVAL, previous=OWNER))
                        case "remove":
                            await log.remove(run, previous=OWNER)
                        case "fork":
                            told.append(await log.create(run, OWNER, parent=("abcd"[count], count + off)))
                        case "adopt":
                            told.append(await log.adopt(run, lines(1, count, run=run)))
                    start = (await log.head(run))[0] + off
                    await log.append(run, start, 1, records(start + 1, start + count, run=run))
                except BusError as error:
                    told.append((type(error), str(error)))
            for info in await log.runs():
                told += [info, await log.head(info.run), await log.verify(info.run), await read(log, info.run)]
        return told

    folder = tmp_path_factory.mktemp("store")
    assert asyncio.run(outcomes(LOGS[name](folder))) == asyncio.run(outcomes(MemoryEventLog()))
