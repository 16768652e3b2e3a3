"""A group of batches, with the files and marks that go along: one statement, which is one transaction.

It checks the fence and moves each run on in one UPDATE (`epoch`, position and hash must be those we know, and the run
must have an owner), and inserts the records of the runs that it moved. A run that it did not move has been taken or
written to by others, and is looked at anew.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from bus.chain import check_turn, is_text, link
from bus.errors import BusError, Conflict, NotFound
from bus.event_log import Mark
from bus.postgres.server import Connection, time_for

_HEADS = (
    "SELECT run, number, CASE WHEN host IS NULL THEN NULL ELSE epoch END, length, head, total FROM runs"
    " WHERE run = ANY($1::text[]) AND NOT removed"
)
_APPEND = """
WITH moved AS (
  UPDATE runs SET length = w.length, head = w.head, total = w.total,
    created = CASE WHEN runs.total = 0 THEN w.time ELSE runs.created END
  FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bytea[], $7::bigint[],
    $8::text[]) AS w (number, epoch, expected, previous, length, head, total, time)
  WHERE runs.number = w.number AND runs.epoch = w.epoch AND runs.length = w.expected AND runs.head = w.previous
    AND runs.host IS NOT NULL AND NOT runs.removed
  RETURNING runs.number
), written AS (
  INSERT INTO events (run, position, total, hash, line)
  SELECT e.run, e.position, e.total, e.hash, e.line
  FROM unnest($9::bigint[], $10::bigint[], $11::bigint[], $12::bytea[], $13::bytea[])
    AS e (run, position, total, hash, line) JOIN moved ON e.run = moved.number
), kept AS (
  INSERT INTO files (sha256, data) SELECT * FROM unnest($14::bytea[], $15::bytea[]) ON CONFLICT DO NOTHING
)
SELECT number FROM moved
"""
_MARK = """
WITH RECURSIVE line AS (
  SELECT number, parent, parent_position FROM runs WHERE run = $1 AND NOT removed
  UNION ALL
  SELECT runs.number, runs.parent, runs.parent_position FROM line JOIN runs ON runs.number = line.parent
  WHERE $2 <= line.parent_position
)
INSERT INTO marks (run, position, hash, maker, data)
SELECT events.run, position, hash, $3, $4 FROM line JOIN events ON events.run = line.number
WHERE position = $2 AND position > parent_position
ON CONFLICT (run, position) DO UPDATE SET hash = excluded.hash, maker = excluded.maker, data = excluded.data
"""
_STANDS = (
    "SELECT sent.at FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[])"
    " AS sent (at, run, position, hash) JOIN events USING (run, position, hash)"
)

Outcome = BusError | Literal["written", "missed"]
"""What became of a batch. "missed": its run was changed by others meanwhile, so it is to be tried again."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where a run stands. `epoch` is its owner's, None while nobody owns it."""

    number: int
    epoch: int | None
    position: int
    digest: bytes
    total: int


@dataclass(slots=True)
class Batch:
    """What one `append` wants written. `time`: that of its first record."""

    run: str
    expected: int
    epoch: int
    lines: Sequence[bytes]
    time: str
    sent: tuple[int, int, bytes] | None = None
    """Once it has been sent: number of its run, position and hash of its last record."""
    uncertain: bool = False
    """It was sent over a connection that was lost, so that it may be in the log, or get there."""


@dataclass(frozen=True, slots=True)
class Riders:
    """What goes along with the next transaction, whatever that is: files by their SHA-256, and after it marks."""

    files: Mapping[bytes, bytes] = field(default_factory=dict)
    marks: Sequence[Mark] = ()

    def __bool__(self) -> bool:
        return bool(self.files or self.marks)

    @property
    def bytes(self) -> int:
        """How many bytes they have together."""
        return sum(map(len, self.files.values())) + sum(len(mark.data) for mark in self.marks)


@dataclass(slots=True)
class _Plan:
    """What a group comes to if the heads are as we know them."""

    outcomes: list[Outcome]
    before: dict[str, Head] = field(default_factory=dict)
    after: dict[str, Head] = field(default_factory=dict)
    times: dict[str, str] = field(default_factory=dict)
    rows: list[tuple[int, int, int, bytes, bytes]] = field(default_factory=list)


class Appends:
    """Appends groups over a connection, and remembers where the runs stand that it has written to."""

    def __init__(self) -> None:
        self._heads: dict[str, Head] = {}

    def forget(self, run: str | None = None) -> None:
        """Forget where a run stands, or all of them: it will be asked."""
        if run is None:
            self._heads.clear()
        else:
            self._heads.pop(run, None)

    async def write(self, connection: Connection, batches: Sequence[Batch], riders: Riders) -> list[Outcome]:
        """Write a group; return what became of each batch.

        One that is `uncertain` counts as written where it is found.
        """
        found = await self._found(connection, batches)
        plan = await self._planned(connection, batches, found)
        moved = await self._send(connection, plan, riders)
        for mark in riders.marks:  # not in one transaction, which the server ends while a slow line brings a large one
            if is_text(mark.run):
                size = len(mark.data)
                await connection.execute(_MARK, mark.run, mark.position, mark.maker, mark.data, timeout=time_for(size))
        for run, head in plan.after.items():
            if head.number in moved:
                self._heads[run] = head
            else:
                self.forget(run)
        return [
            "missed" if outcome == "written" and at not in found and batch.run not in self._heads else outcome
            for at, (batch, outcome) in enumerate(zip(batches, plan.outcomes, strict=True))
        ]

    async def _found(self, connection: Connection, batches: Sequence[Batch]) -> Collection[int]:
        """Return which of the uncertain batches are in the log."""
        sent = [(at, *batch.sent) for at, batch in enumerate(batches) if batch.uncertain and batch.sent]
        if not sent:
            return ()
        for batch in batches:
            self.forget(batch.run)
        # Whoever else may still be at work for a connection that we lost holds these rows: it ends first.
        numbers = sorted({number for _, number, _, _ in sent})
        async with connection.transaction():
            await connection.fetch(
                "SELECT 1 FROM runs WHERE number = ANY($1) ORDER BY number FOR NO KEY UPDATE", numbers
            )
            rows = await connection.fetch(_STANDS, *_columns(sent, 4))
        return {row[0] for row in rows} | {at for at, *_ in sent if not batches[at].lines}

    async def _planned(self, connection: Connection, batches: Sequence[Batch], found: Collection[int]) -> _Plan:
        """Return what to write. What is refused is refused by heads that have been asked just now."""
        asked: set[str] = set()
        while True:
            unknown = {batch.run for batch in batches} - self._heads.keys() - asked
            if unknown:
                asked |= unknown
                rows = await connection.fetch(_HEADS, [run for run in unknown if is_text(run)])
                self._heads.update({row[0]: Head(*row[1:]) for row in rows})
            plan = self._plan(batches, found)
            refused = {
                batch.run
                for batch, outcome in zip(batches, plan.outcomes, strict=True)
                if isinstance(outcome, BusError) and batch.run not in asked
            }
            if not refused:
                return plan
            for run in refused:
                self.forget(run)

    def _plan(self, batches: Sequence[Batch], found: Collection[int]) -> _Plan:
        plan = _Plan([])
        for at, batch in enumerate(batches):
            outcome: Outcome = "written"
            if at not in found:
                head = plan.after.get(batch.run) or self._heads.get(batch.run)
                try:
                    self._add(plan, batch, head)
                except (Conflict, NotFound) as refusal:
                    outcome = refusal
            plan.outcomes.append(outcome)
        return plan

    def _add(self, plan: _Plan, batch: Batch, head: Head | None) -> None:
        if head is None:
            raise NotFound(f"there is no run {batch.run!r}")
        check_turn(batch.run, owned=head.epoch, length=head.position, epoch=batch.epoch, expected=batch.expected)
        plan.before.setdefault(batch.run, head)
        if head.total == 0 and batch.lines:
            plan.times.setdefault(batch.run, storable(batch.time))
        for line in batch.lines:
            head = replace(
                head,
                position=head.position + 1,
                total=head.total + len(line),
                digest=link(head.digest, line),
            )
            plan.rows.append((head.number, head.position, head.total, head.digest, line))
        plan.after[batch.run] = head
        batch.sent = (head.number, head.position, head.digest)

    async def _send(self, connection: Connection, plan: _Plan, riders: Riders) -> Collection[int]:
        """Send a group; return the numbers of the runs that were moved on."""
        moves = [
            (
                now.number,
                now.epoch,
                was.position,
                was.digest,
                now.position,
                now.digest,
                now.total,
                plan.times.get(run, ""),
            )
            for run, was, now in ((run, plan.before[run], head) for run, head in plan.after.items())
        ]
        if not moves and not riders.files:
            return ()
        files = list(riders.files.items())
        size = sum(len(row[-1]) for row in plan.rows) + sum(len(data) for _, data in files)
        columns = *_columns(moves, 8), *_columns(plan.rows, 5), *_columns(files, 2)
        rows = await connection.fetch(_APPEND, *columns, timeout=time_for(size))
        return {row[0] for row in rows}


def storable(value: str) -> str:
    """Return a text as PostgreSQL can hold it."""
    return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _columns(rows: Iterable[Sequence[object]], width: int) -> list[list[object]]:
    columns: list[list[object]] = [[] for _ in range(width)]
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    return columns
