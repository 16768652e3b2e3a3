"""What only the log on a server has to do: other hosts' writers, lost connections, restarts, migrations, passwords."""

import asyncio
import os
import random
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from math import inf
from pathlib import Path

import pytest

from bus.codec import encode
from bus.errors import BusError, Conflict, Damaged, NotFound, StorageFailed, TooNew
from bus.event_log import Mark, Owner
from bus.event_logs.postgres import PostgresEventLog
from bus.file_store import SMALL_BYTES
from bus.postgres import schema, server, writer
from bus.postgres.server import Server, shown
from bus.store import open_store
from tests.support.events import OWNER, RIVAL, record, records
from tests.support.lossy import Fate, Lossy
from tests.support.postgres import Postgres
from tests.support.postgres import server as the_server

ROOT = Path(__file__).parent.parent.parent
SEED = int(os.environ.get("FAULT_SEED", "0"))


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """Return a server without tables of ours, the one that the other tests use too."""
    found = the_server()
    found.clean()
    yield found
    found.go_on()


@pytest.fixture(scope="module")
def durable() -> Iterator[Postgres]:
    """Return a server that may be crashed: what it acknowledges is on the disk."""
    started = Postgres(fsync=True)
    yield started
    started.close()


async def read(log: PostgresEventLog, run: str) -> list[object]:
    return [envelope async for envelope in log.read(run)]


async def begun(log: PostgresEventLog, run: str, length: int) -> int:
    epoch = await log.create(run, OWNER)
    await log.append(run, 0, epoch, records(1, length, run=run))
    return epoch


async def until(condition: str, postgres: Postgres) -> None:
    """Wait until a query returns "t"."""
    async with asyncio.timeout(30):
        while postgres.sql(condition).strip() != "t":
            await asyncio.sleep(0.01)


pytestmark = pytest.mark.services


# fencing


async def test_who_was_taken_for_dead_cannot_write_any_more(postgres: Postgres) -> None:
    async with PostgresEventLog(postgres.url) as zombie, PostgresEventLog(postgres.url) as heir:
        old = await begun(zombie, "run", 2)
        new = await heir.take("run", RIVAL, previous=OWNER)
        await heir.append("run", 2, new, records(3, 3))
        for expected in (2, 3):
            with pytest.raises(Conflict, match="epoch 2, not 1: it has another owner by now"):
                await zombie.append("run", expected, old, [record(expected + 1)])
        with pytest.raises(Conflict, match="by now"):
            await zombie.take("run", OWNER, previous=OWNER)
        await zombie.append("run", 3, new, records(4, 4))  # the epoch counts, not the connection
        assert await read(heir, "run") == records(1, 4)
        assert await heir.verify("run") == 4


async def test_of_a_group_the_runs_that_were_taken_are_refused_and_the_others_written(postgres: Postgres) -> None:
    runs = [f"run-{number}" for number in range(6)]
    async with PostgresEventLog(postgres.url) as zombie, PostgresEventLog(postgres.url) as heir:
        for run in runs:
            await begun(zombie, run, 2)
        for run in runs[::2]:
            await heir.take(run, RIVAL, previous=OWNER)
        appends = [zombie.append(run, 2, 1, [record(3, run=run)]) for run in runs]
        outcomes = await asyncio.gather(*appends, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Conflict, type(None)] * 3
        assert [await heir.verify(run) for run in runs] == [2, 3] * 3


async def test_a_take_waits_for_the_append_that_is_under_way_and_then_fences(postgres: Postgres) -> None:
    """In every order of two that write and take at once, each record stands once and the epochs rise."""
    chance = random.Random(SEED)
    acknowledged: list[tuple[int, int]] = []

    async with PostgresEventLog(postgres.url) as first, PostgresEventLog(postgres.url) as second:
        await first.create("run", Owner("host", 0, "boot"))

        async def contend(log: PostgresEventLog, pid: int) -> None:
            me = Owner("host", pid, "boot")
            for _ in range(15):
                info = (await log.runs())[0]
                try:
                    epoch = await log.take("run", me, previous=info.owner)
                    for _ in range(chance.randint(1, 6)):
                        position, _ = await log.head("run")
                        await log.append("run", position, epoch, [record(position + 1)])
                        acknowledged.append((position + 1, epoch))
                except Conflict:
                    await asyncio.sleep(0)

        await asyncio.gather(*[contend(log, pid) for pid, log in enumerate((first, second, first, second), 1)])
        length = await first.verify("run")
    assert sorted(position for position, _ in acknowledged) == list(range(1, length + 1)), f"seed {SEED}"
    in_order = [epoch for _, epoch in sorted(acknowledged)]
    assert in_order == sorted(in_order), f"seed {SEED}"


async def start_writer(url: str, run: str) -> Process:
    script = ROOT / "tests/support/append_to_server.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return await asyncio.create_subprocess_exec(
        sys.executable, str(script), url, run, stdout=PIPE, stderr=PIPE, env=environment
    )


@pytest.mark.parametrize("seed", range(3))
async def test_a_stopped_process_holds_up_nobody_and_is_refused_when_it_goes_on(postgres: Postgres, seed: int) -> None:
    chance = random.Random(seed)
    writer = await start_writer(postgres.url, "run")
    try:
        assert writer.stdout is not None
        assert writer.stderr is not None
        for _ in range(chance.randint(1, 30)):
            await writer.stdout.readline()
        writer.send_signal(signal.SIGSTOP)
        async with PostgresEventLog(postgres.url) as heir:
            epoch = await heir.take("run", RIVAL, previous=OWNER)
            position, _ = await heir.head("run")
            await heir.append("run", position, epoch, [record(position + 1)])
            writer.send_signal(signal.SIGCONT)
            told, errors = await asyncio.wait_for(writer.communicate(), 60)
            assert "has another owner by now" in errors.decode(), f"seed {seed}"
            assert all(int(line) <= position for line in told.splitlines())
            assert await heir.verify("run") == position + 1
    finally:
        if writer.returncode is None:
            writer.kill()
            await writer.wait()


async def test_a_session_that_holds_a_run_and_says_nothing_is_ended_by_the_server(postgres: Postgres) -> None:
    async with PostgresEventLog(postgres.url) as log:
        await begun(log, "run", 1)
        stuck = await server.Server(postgres.url).connect(read_only=False)
        await stuck.execute("BEGIN")
        await stuck.fetch("SELECT 1 FROM runs WHERE run = 'run' FOR UPDATE")
        assert await log.take("run", RIVAL, previous=OWNER) == 2
        stuck.terminate()


# connections that are lost


async def append(log: PostgresEventLog) -> None:
    log.marks.keep(Mark("run", 2, "us", b"here"))
    await log.files.put(b"small")
    await log.append("run", 2, 1, records(3, 5))


COPIED = [encode(each) for each in records(1, 300, run="copy")]
OPERATIONS: dict[str, Callable[[PostgresEventLog], Awaitable[object]]] = {
    "append": append,
    "create": lambda log: log.create("new", RIVAL),
    "fork": lambda log: log.create("new", RIVAL, parent=("run", 1)),
    "take": lambda log: log.take("run", RIVAL, previous=OWNER),
    "take again": lambda log: log.take("run", OWNER, previous=OWNER),
    "release": lambda log: log.release("run", 1),
    "adopt": lambda log: log.adopt("copy", COPIED),
    "remove": lambda log: log.remove("run", previous=OWNER),
}


async def told_by(log: PostgresEventLog) -> list[object]:
    """Return all that a log tells, but which of the epochs that only rise an owner has."""
    told: list[object] = []
    for info in await log.runs():
        told += [info.run, info.length, info.owner, info.bytes, info.imported, await log.verify(info.run)]
        told.append([line async for line in log.lines(info.run)])
    return [*told, await log.files.sizes()]


@pytest.mark.parametrize("what", OPERATIONS)
@pytest.mark.parametrize("fate", ["done", "unsent"])
async def test_what_was_under_way_when_the_connection_was_lost_is_done_once(
    postgres: Postgres, what: str, fate: Fate
) -> None:
    """Lost at its first statement, at its second …, up to COMMIT: the outcome is that of no loss at all."""
    lossy = Lossy(postgres.url)

    async def outcome(lost_at: int | None) -> tuple[object, list[object], int]:
        postgres.clean()
        lossy.fate = lambda _: None
        async with PostgresEventLog(postgres.url, connect=lossy) as log:
            await begun(log, "run", 2)
            lossy.statements.clear()
            lossy.fate = lambda _: fate if len(lossy.statements) == lost_at else None
            returned = await OPERATIONS[what](log)
            count = len(lossy.statements)
            lossy.fate = lambda _: None
            if what.startswith("take"):  # the epoch only rises, once more where it may have risen already
                assert returned == (await log.runs())[0].epoch
                returned = None
            return returned, await told_by(log), count

    returned, told, count = await outcome(None)
    for lost_at in range(1, count + 1):
        again, told_again, _ = await outcome(lost_at)
        assert (again, told_again) == (returned, told), f"lost at statement {lost_at} of {count}"


async def test_a_commit_that_ends_after_its_connection_was_lost_counts_once(postgres: Postgres) -> None:
    lossy = Lossy(postgres.url)
    blocker = await server.Server(postgres.url).connect(read_only=False)
    async with PostgresEventLog(postgres.url, connect=lossy) as log:
        await begun(log, "run", 2)
        await blocker.execute("BEGIN")
        await blocker.fetch("SELECT 1 FROM runs FOR UPDATE")
        writer = lossy.open[0]
        append = asyncio.create_task(log.append("run", 2, 1, records(3, 4)))
        waiting = "SELECT count(*) = {} FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        await until(waiting.format(1), postgres)
        writer.terminate()  # the server's side of it goes on waiting, and will commit
        await until(waiting.format(2), postgres)  # by now it is asked for over a new connection
        await blocker.execute("COMMIT")
        await append
        assert await log.verify("run") == 4
        await log.append("run", 4, 1, records(5, 5))
    blocker.terminate()


async def test_who_wrote_and_was_taken_over_while_the_connection_was_lost_is_told_that_it_wrote(
    postgres: Postgres,
) -> None:
    lossy = Lossy(postgres.url)
    async with PostgresEventLog(postgres.url) as heir, PostgresEventLog(postgres.url, connect=lossy) as log:
        await begun(log, "run", 2)

        def fate(query: str) -> Fate:
            if "WITH moved" not in query:
                return None
            lossy.fate = lambda _: None
            return "done"

        lossy.fate = fate
        lost = asyncio.create_task(log.append("run", 2, 1, records(3, 3)))
        while len(await read(heir, "run")) < 3:
            await asyncio.sleep(0)
        epoch = await heir.take("run", RIVAL, previous=OWNER)
        await heir.append("run", 3, epoch, records(4, 4))
        await lost
        with pytest.raises(Conflict, match="another owner"):
            await log.append("run", 3, 1, records(4, 4))
        assert await heir.verify("run") == 4


async def test_sessions_ended_again_and_again_cost_no_record_and_double_none(postgres: Postgres) -> None:
    chance = random.Random(SEED)
    runs = [f"run-{number}" for number in range(12)]
    written = 0
    async with PostgresEventLog(postgres.url) as log:
        epochs = {run: await log.create(run, OWNER) for run in runs}

        async def write(run: str) -> None:
            nonlocal written
            for position in range(25):
                await log.append(run, position, epochs[run], [record(position + 1, run=run)])
                written += 1

        async def cut() -> None:
            killer = await server.Server(postgres.url).connect(read_only=False)
            try:
                while True:
                    enough = written + chance.randint(1, 24)  # it gets on between one cut and the next
                    while written < enough:
                        await asyncio.sleep(0)
                    await asyncio.sleep(chance.random() * 0.01)
                    await killer.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE application_name = 'eventswarm' AND pid <> pg_backend_pid()"
                    )
            finally:
                killer.terminate()

        cutting = asyncio.create_task(cut())
        async with asyncio.TaskGroup() as group:
            for run in runs:
                group.create_task(write(run), name=run)
        cutting.cancel()
        await asyncio.wait([cutting])
        for run in runs:
            assert await read(log, run) == records(1, 25, run=run), f"seed {SEED}"
            assert await log.verify(run) == 25


async def test_a_restart_between_append_and_read_is_not_noticed(postgres: Postgres) -> None:
    async with PostgresEventLog(postgres.url) as log:
        epoch = await begun(log, "run", 600)
        postgres.restart()
        reading = log.read("run")
        assert await anext(reading) == record(1)
        postgres.restart()
        assert [each async for each in reading] == records(2, 600)
        await log.append("run", 600, epoch, records(601, 601))
        postgres.restart()
        assert await log.verify("run") == 601
        assert await log.files.has(["ab" * 32]) == {"ab" * 32: False}


async def test_what_was_acknowledged_outlives_a_crash_of_the_server(durable: Postgres) -> None:
    chance = random.Random(SEED)
    acknowledged = dict.fromkeys("abc", 0)
    async with PostgresEventLog(durable.url) as log:
        for run in acknowledged:
            await log.create(run, OWNER)

        async def write(run: str) -> None:
            while True:
                position = acknowledged[run]
                await log.append(run, position, 1, records(position + 1, position + 2, run=run))
                acknowledged[run] += 2

        for _ in range(2):
            writers = [asyncio.create_task(write(run)) for run in acknowledged]
            enough = sum(acknowledged.values()) + chance.randint(20, 200)
            while sum(acknowledged.values()) < enough:
                await asyncio.sleep(0)
            await asyncio.to_thread(durable.restart, "immediate")
            after = sum(acknowledged.values()) + 20
            while sum(acknowledged.values()) < after:  # they go on by themselves
                assert not any(writer.done() for writer in writers)
                await asyncio.sleep(0)
            for writer in writers:
                writer.cancel()
            await asyncio.wait(writers)
            for run in acknowledged:
                length = await log.verify(run)
                assert length >= acknowledged[run], f"seed {SEED}"
                acknowledged[run] = length
                assert await read(log, run) == records(1, length, run=run)


async def test_a_server_that_is_gone_fails_all_that_wait_and_says_what_to_do(durable: Postgres) -> None:
    durable.clean()
    async with PostgresEventLog(durable.url, patience_s=0.3) as log:
        epoch = await begun(log, "run", 1)
        durable.stop("immediate")
        appends = [log.append("run", 1, epoch, [record(2)]), log.create("other", OWNER), log.head("run")]
        for outcome in await asyncio.gather(*appends, return_exceptions=True):
            assert isinstance(outcome, StorageFailed)
            assert "look whether the server runs" in str(outcome)
            assert f"127.0.0.1:{durable.port}" in str(outcome)
        with pytest.raises(StorageFailed, match="open the store again"):
            await log.append("run", 1, epoch, [record(2)])
        with pytest.raises(StorageFailed, match="look whether the server runs"):
            await PostgresEventLog(durable.url).__aenter__()
        durable.start()
        with pytest.raises(StorageFailed, match="open the store again"):
            await log.append("run", 1, epoch, [record(2)])
        assert "look whether the server runs" in str(log.failure), "it says so for good"
        assert await log.verify("run") == 1
    async with PostgresEventLog(durable.url) as log:
        await log.append("run", 1, epoch, [record(2)])


async def test_a_server_that_hangs_is_waited_for(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_STATEMENT_S", 0.2)
    monkeypatch.setattr(server, "_CONNECTING_S", 0.2)
    async with PostgresEventLog(postgres.url) as log:
        epoch = await begun(log, "run", 1)
        postgres.pause()
        append = asyncio.create_task(log.append("run", 1, epoch, [record(2)]))
        done, _ = await asyncio.wait([append], timeout=1)
        assert not done
        monkeypatch.undo()
        postgres.go_on()
        await append
        assert await log.verify("run") == 2


@asynccontextmanager
async def line_to(postgres: Postgres, *, rate: float = inf) -> AsyncIterator[tuple[str, set[int]]]:
    """Give the URL of a way to the server, of so many bytes a second towards it, and the connections that are silent.

    Those that are not lead both ways, numbered from 0; bytes over the others are lost without a word.
    """
    numbers, silent, handlers = count(), set[int](), set[asyncio.Task[None]]()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, rate: float) -> None:
        try:
            while data := await reader.read(1 << 16):
                if number not in silent:
                    writer.write(data)
                    await writer.drain()
                    await asyncio.sleep(len(data) / rate)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = next(numbers)
        back, there = await asyncio.open_connection("127.0.0.1", postgres.port)
        await asyncio.gather(carry(reader, there, number, rate), carry(back, writer, number, inf))

    def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.create_task(serve(reader, writer)))

    async with await asyncio.start_server(handle, "127.0.0.1", 0, limit=1 << 16) as line:
        port = line.sockets[0].getsockname()[1]
        try:
            yield f"postgresql://swarm@127.0.0.1:{port}/postgres", silent
        finally:
            for handler in handlers:
                handler.cancel()
            await asyncio.gather(*handlers, return_exceptions=True)


async def test_of_connections_that_fell_silent_together_a_heartbeat_waits_for_one_and_not_for_long(
    postgres: Postgres,
) -> None:
    async with line_to(postgres) as (url, silent), PostgresEventLog(url) as log:
        await begun(log, "run", 1)
        await asyncio.gather(*(log._reader.fetch("SELECT pg_sleep(0.2)") for _ in range(4)))
        assert len(log._reader._idle) == 4
        silent.update(range(1, 5))  # all but the writer
        async with asyncio.timeout(5):
            await log.beat(OWNER)
            assert await log.silent([OWNER], 5.0) == set()
            assert (await log.info("run")).length == 1


@pytest.mark.parametrize("marked", [False, True])
async def test_what_carries_much_may_take_as_long_as_a_slow_line_needs_for_it(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, *, marked: bool
) -> None:
    monkeypatch.setattr(server, "_STATEMENT_S", 1.0)
    large, small = os.urandom(3 << 20), [os.urandom(SMALL_BYTES) for _ in range(50)]
    async with line_to(postgres, rate=1 << 19) as (url, _), PostgresEventLog(url, patience_s=0.5) as log:
        name = await log.files.put(large)
        epoch = await log.create("run", OWNER)
        names = [await log.files.put(data) for data in small]
        if marked:
            log.marks.keep(Mark("run", 1, "maker", os.urandom(1 << 20)))
        await log.append("run", 0, epoch, [record(1)])
        assert [await log.files.get(one) for one in [name, *names]] == [large, *small]


async def test_the_system_looks_whether_the_server_is_still_there(postgres: Postgres) -> None:
    connection = await Server(postgres.url).connect(read_only=True)
    connected = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
    assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
    await connection.close()


async def test_a_statement_that_the_server_ends_is_named_with_what_to_do(postgres: Postgres) -> None:
    async with PostgresEventLog(postgres.url) as log:
        epoch = await begun(log, "run", 1)
    postgres.sql("ALTER ROLE swarm SET statement_timeout = '100ms'")
    try:
        blocker = await server.Server(postgres.url).connect(read_only=False)
        async with PostgresEventLog(postgres.url) as log:
            await blocker.execute("BEGIN")
            await blocker.fetch("SELECT 1 FROM runs FOR UPDATE")
            with pytest.raises(StorageFailed, match="its statement_timeout ended it"):
                await log.append("run", 1, epoch, [record(2)])
            assert len(await read(log, "run")) == 1
        blocker.terminate()
    finally:
        postgres.sql("ALTER ROLE swarm RESET statement_timeout")


# groups


async def test_appends_that_arrive_together_share_one_transaction(postgres: Postgres) -> None:
    lossy = Lossy(postgres.url)
    runs = [f"run-{number}" for number in range(64)]
    async with PostgresEventLog(postgres.url, connect=lossy) as log:
        for run in runs:
            await log.create(run, OWNER)
        for position in range(3):
            lossy.statements.clear()
            await asyncio.gather(*[log.append(run, position, 1, [record(position + 1, run=run)]) for run in runs])
            assert len([it for it in lossy.statements if "WITH moved" in it]) == 1
            assert len(lossy.statements) == (1 if position else 2)  # at first it asks where they stand
        assert [await log.verify(run) for run in runs] == [3] * 64


async def test_a_small_file_goes_with_the_next_append_and_a_large_one_at_once(postgres: Postgres) -> None:
    stored = "SELECT count(*) FROM eventswarm.files"
    async with PostgresEventLog(postgres.url) as log:
        epoch = await log.create("run", OWNER)
        small, large = await log.files.put(b"small"), await log.files.put(b"x" * (SMALL_BYTES + 1))
        assert postgres.sql(stored).strip() == "1"
        assert await log.files.has([small, large]) == {small: True, large: True}
        await log.append("run", 0, epoch, records(1, 1))
        assert postgres.sql(stored).strip() == "2"
        assert await log.files.get(small) == b"small"
        await log.files.put(b"kept on closing")
    assert postgres.sql(stored).strip() == "3"


async def test_what_is_held_is_not_held_for_ever(postgres: Postgres) -> None:
    async with PostgresEventLog(postgres.url) as log:
        for number in range(100):
            await log.files.put(number.to_bytes(2, "big") * (SMALL_BYTES // 2))
        await until("SELECT count(*) > 60 FROM eventswarm.files", postgres)


async def test_where_much_is_held_back_a_file_waits_until_it_is_written(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_MOST_BYTES_HELD", 1_000)
    async with PostgresEventLog(postgres.url) as log:
        for number in range(100):
            await log.files.put(number.to_bytes(100))
            assert len(log.files._held) <= 11
        await asyncio.gather(*[log.files.put(number.to_bytes(100)) for number in range(300)])
        assert len(log.files._held) <= 11
        assert len(await log.files.sizes()) == 300


async def test_what_goes_along_with_a_transaction_is_bounded_and_goes_before_what_may_name_it(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_MOST_BYTES_RIDING", 1_000)
    lossy = Lossy(postgres.url)
    async with PostgresEventLog(postgres.url, connect=lossy) as log:
        epoch = await begun(log, "run", 1)
        names = [await log.files.put(number.to_bytes(100)) for number in range(15)]
        for number in range(10):
            log.marks.keep(Mark("run", 1, "maker", number.to_bytes(100)))
        lossy.statements.clear()
        await log.append("run", 1, epoch, [record(2)])
        kinds = ["mark" if "INTO marks" in it else "files" for it in lossy.statements if "INSERT" in it]
        assert kinds == ["files", "files", *["mark"] * 7, "files", *["mark"] * 3]
        assert await log.files.get(names[-1]) == (14).to_bytes(100)
        newest = await log.marks.newest("run", "maker")
        assert newest is not None
        assert newest.data == (9).to_bytes(100)


async def test_a_file_with_other_bytes_is_damaged(postgres: Postgres) -> None:
    async with PostgresEventLog(postgres.url) as log:
        name = await log.files.put(b"x" * (SMALL_BYTES + 1))
        postgres.sql("UPDATE eventswarm.files SET data = ''")
        with pytest.raises(Damaged, match=name):
            await log.files.get(name)


# records that are not there any more


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM eventswarm.events WHERE position = 200", "position 200 is missing"),
        ("DELETE FROM eventswarm.events WHERE position > 299", "position 300 is missing"),
        ("DELETE FROM eventswarm.events", "position 1 is missing"),
        ("UPDATE eventswarm.events SET line = line || ' ' WHERE position = 17", "position 17 is not the one"),
        ("UPDATE eventswarm.runs SET length = 299", "the hash kept with the run is not that of its last"),
    ],
)
async def test_a_record_that_was_changed_or_cut_is_found(postgres: Postgres, statement: str, told: str) -> None:
    async with PostgresEventLog(postgres.url) as log:
        await begun(log, "run", 300)
        postgres.sql(statement)
        with pytest.raises(Damaged, match=told):
            await log.verify("run")
        if "missing" in told:
            with pytest.raises(Damaged, match=told):
                await read(log, "run")


# opening


async def test_many_that_open_a_new_store_at_once_all_get_it(postgres: Postgres) -> None:
    logs = [PostgresEventLog(postgres.url) for _ in range(6)]
    await asyncio.gather(*[log.__aenter__() for log in logs])
    for number, log in enumerate(logs):
        await begun(log, f"run-{number}", 1)
    assert len(await logs[0].runs()) == 6
    for log in logs:
        await log.__aexit__(None, None, None)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the steps of the schema, to be added to."""
    found = list(schema.STEPS)
    monkeypatch.setattr(schema, "STEPS", found)
    return found


async def test_an_older_schema_is_brought_up_to_date_and_keeps_what_it_holds(
    postgres: Postgres, steps: list[str]
) -> None:
    async with PostgresEventLog(postgres.url) as log:
        await begun(log, "run", 3)
    steps.append("ALTER TABLE runs ADD COLUMN more text; CREATE TABLE another (n int)")
    with pytest.raises(StorageFailed, match="older version"):
        await PostgresEventLog(postgres.url, read_only=True).__aenter__()
    for _ in range(2):
        async with PostgresEventLog(postgres.url) as log:
            assert await log.verify("run") == 3
    assert postgres.sql("SELECT schema_version FROM eventswarm.state").strip() == "2"


@pytest.mark.parametrize("held", [0, 3])
async def test_a_crash_in_a_migration_leaves_all_as_it_was(postgres: Postgres, steps: list[str], held: int) -> None:
    if held:
        async with PostgresEventLog(postgres.url) as log:
            await begun(log, "run", held)
    steps.append("CREATE TABLE another (n int); SELECT pg_terminate_backend(pg_backend_pid()); SELECT pg_sleep(9)")
    with pytest.raises(StorageFailed, match="terminating connection"):
        await PostgresEventLog(postgres.url, patience_s=0.2).__aenter__()
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'eventswarm'"
    assert postgres.sql(f"{tables} AND tablename = 'another'").strip() == "0"
    steps.pop()
    if not held:
        assert postgres.sql(tables).strip() == "0"
        with pytest.raises(NotFound, match="nothing has been run there"):
            await PostgresEventLog(postgres.url, read_only=True).__aenter__()
    async with PostgresEventLog(postgres.url) as log:
        assert [info.length for info in await log.runs()] == [held] * bool(held)


async def test_a_newer_schema_is_refused(postgres: Postgres) -> None:
    async with PostgresEventLog(postgres.url):
        pass
    postgres.sql("UPDATE eventswarm.state SET schema_version = 99")
    for read_only in (False, True):
        with pytest.raises(TooNew, match="schema 99"):
            await PostgresEventLog(postgres.url, read_only=read_only).__aenter__()


async def test_a_store_open_for_reading_writes_nothing(postgres: Postgres) -> None:
    with pytest.raises(NotFound, match="nothing has been run there"):
        async with open_store(postgres.url, read_only=True):
            raise AssertionError("there is none")
    async with open_store(postgres.url) as store:
        epoch = await store.log.create("run", OWNER)
        await store.log.append("run", 0, epoch, records(1, 3))
    async with open_store(postgres.url, read_only=True) as store:
        assert await store.log.verify("run") == 3
        mark = Mark("run", 3, "us", b"here")
        store.log.marks.keep(mark)
        assert store.log.marks.unkept() == [mark]
        for attempt in (store.log.append("run", 3, epoch, [record(4)]), store.files.put(b"x"),
                        store.log.create("new", OWNER), store.log.remove("run", previous=OWNER)):  # fmt: skip
            with pytest.raises(StorageFailed, match="reading only"):
                await attempt


async def test_a_user_without_rights_is_told_which_it_needs(postgres: Postgres) -> None:
    postgres.sql("DROP ROLE IF EXISTS weak; CREATE ROLE weak LOGIN")
    with pytest.raises(StorageFailed, match="GRANT CREATE ON DATABASE"):
        await PostgresEventLog(postgres.url.replace("swarm@", "weak@")).__aenter__()


# who is there


async def test_nobody_cleans_up_while_another_has_the_store_open_for_writing(postgres: Postgres) -> None:
    async with PostgresEventLog(postgres.url) as log:
        name = await log.files.put(b"x")
        with pytest.raises(RuntimeError, match="alone"):
            await log.files.remove([name])
        async with PostgresEventLog(postgres.url) as other:
            for one in (log, other):
                with pytest.raises(Conflict, match="open for writing elsewhere"):
                    async with one.files.alone():
                        raise AssertionError("it is not alone")
        async with log.files.alone(), PostgresEventLog(postgres.url, read_only=True) as reader:
            with pytest.raises(StorageFailed, match="being cleaned up"):
                await PostgresEventLog(postgres.url, patience_s=0.1).__aenter__()
            opening = asyncio.create_task(PostgresEventLog(postgres.url).__aenter__())
            await log.files.remove([name])
            assert await log.files.compact() >= 0
            assert await reader.files.sizes() == {}
            assert not opening.done()
        async with await opening:
            with pytest.raises(Conflict):
                async with log.files.alone():
                    raise AssertionError("it is not alone")


async def test_who_lost_its_connection_while_another_cleaned_up_writes_no_more(postgres: Postgres) -> None:
    lossy = Lossy(postgres.url)
    async with PostgresEventLog(postgres.url) as cleaner, PostgresEventLog(postgres.url, connect=lossy) as log:
        epoch = await begun(log, "run", 1)
        lossy.open[0].terminate()
        await until("SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory'", postgres)
        async with cleaner.files.alone():
            await cleaner.files.remove([])
        with pytest.raises(StorageFailed, match="cleaned up while the connection to it was lost"):
            await log.append("run", 1, epoch, [record(2)])
        assert await cleaner.verify("run") == 1


async def test_nobody_is_silent_for_the_time_in_which_the_server_was_down(postgres: Postgres) -> None:
    async with PostgresEventLog(postgres.url) as log:
        await log.beat(OWNER)
        postgres.sql("UPDATE eventswarm.hubs SET seen = seen - interval '1 hour'")
        assert await log.silent([OWNER], 0.01) == {OWNER}
        postgres.restart()
        assert await log.silent([OWNER, RIVAL], 600) == {RIVAL}
        postgres.sql("UPDATE eventswarm.hubs SET seen = seen - interval '2 days'")
        await log.beat(RIVAL)
        assert postgres.sql("SELECT pid FROM eventswarm.hubs").split() == [str(RIVAL.pid)]


# URLs and passwords


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://me:secret@db.example:5433/swarm", "PostgreSQL at db.example:5433, database 'swarm'"),
        ("postgresql://me:secret@a,b:6/swarm?password=secret", "PostgreSQL at a,b:6, database 'swarm'"),
        ("postgresql:///swarm", "PostgreSQL, database 'swarm'"),
        ("postgresql://", "PostgreSQL"),
        ("postgresql://me:1#secret@db/swarm", "PostgreSQL"),
        ("postgresql://me:1/secret@db/swarm", "PostgreSQL"),
        ("postgresql://me:1?secret@db/swarm", "PostgreSQL"),
    ],
)
def test_a_server_is_named_without_its_password(url: str, told: str) -> None:
    assert shown(url) == told


@pytest.mark.parametrize("password", ["sec#ret", "sec/ret", "1#secret", "1/secret", "[secret", "sec:ret", "sec ret"])
async def test_no_message_shows_a_password(postgres: Postgres, password: str) -> None:
    try:
        await PostgresEventLog(f"postgresql://guarded:{password}@127.0.0.1:{postgres.port}/postgres").__aenter__()
    except BusError as error:
        shown_by: BaseException | None = error
        while shown_by is not None:
            assert not any(part in str(shown_by) for part in (password, "secret", "sec", "ret"))
            shown_by = shown_by.__cause__
    else:
        pytest.fail("it opened")


async def test_a_password_may_come_from_the_environment(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres.sql("DROP OWNED BY guarded; DROP ROLE guarded" if postgres.sql(
        "SELECT 1 FROM pg_roles WHERE rolname = 'guarded'") else "SELECT 1")  # fmt: skip
    postgres.sql("CREATE ROLE guarded LOGIN PASSWORD 's3cret'; GRANT CREATE ON DATABASE postgres TO guarded")
    url = f"postgresql://guarded@127.0.0.1:{postgres.port}/postgres"
    monkeypatch.setenv("PGPASSWORD", "wrong")
    with pytest.raises(StorageFailed, match="look at user and password"):
        await PostgresEventLog(url).__aenter__()
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    async with PostgresEventLog(url) as log:
        await begun(log, "run", 1)
    monkeypatch.setenv("PGPORT", str(postgres.port))
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    monkeypatch.setenv("PGUSER", "guarded")
    monkeypatch.setenv("PGDATABASE", "postgres")
    async with PostgresEventLog("postgresql://") as log:
        assert await log.verify("run") == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("/postgres", "/nowhere"), "make the database"),
        (("/postgres", "/postgres?sslmode=require"), "PostgreSQL at 127.0.0.1"),
        (("postgresql://", "mysql://"), "cannot be read"),
    ],
)
async def test_a_server_that_cannot_be_used_says_why(postgres: Postgres, change: Sequence[str], told: str) -> None:
    with pytest.raises(StorageFailed, match=told):
        await PostgresEventLog(postgres.url.replace(*change)).__aenter__()


async def test_without_its_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(StorageFailed, match=r"pip install 'eventswarm\[postgres\]'"):
        async with open_store("postgresql://db.example/swarm"):
            raise AssertionError("it cannot open")
