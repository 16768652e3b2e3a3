"""Files in PostgreSQL by their SHA-256. Contract: `FileStore` in `bus/event_log.py`.

Small ones are held back and become durable with the event that names them; larger ones are written at once, over a
connection of the readers, so that appends do not wait for them.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from bus.errors import Damaged, NotFound, StorageFailed
from bus.file_store import SMALL_BYTES
from bus.postgres.reader import Reader
from bus.postgres.server import Connection, Server, time_for
from bus.postgres.writer import Again, Writer

MOST_BYTES = 512 << 20
"""The largest file: a value of PostgreSQL has at most 1 GiB, and both sides hold it twice on its way."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GET = "SELECT octet_length(data), CASE WHEN octet_length(data) <= $2 THEN data END FROM files WHERE sha256 = $1"
_AT_ONCE = 1 << 20
"""Of a larger file the size is asked first: it says how long the bytes may take."""
_REMOVED = 1_000
"""Files removed in one transaction: others that write wait for no more."""
_COMPACTING_S = 3600.0
_SIZE = "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relnamespace = current_schema()::regnamespace"


class PostgresFileStore:
    """Meets `bus.event_log.FileStore`. `writer`: None where nothing may be written."""

    def __init__(self, server: Server, reader: Reader, writer: Writer | None) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer

    async def put(self, data: bytes) -> str:
        """Store bytes and return their SHA-256. Raises `StorageFailed`."""
        writer = self.writable()
        digest = await _digest(data)
        if len(data) <= SMALL_BYTES:
            await writer.hold_file(digest, data)
            return digest.hex()
        if len(data) > MOST_BYTES:
            raise StorageFailed(
                f"a file of {len(data)} bytes is too large for {self._server.name}: it takes up to {MOST_BYTES}"
            )
        if not await self._reader.fetch("SELECT 1 FROM files WHERE sha256 = $1", digest):
            insert = "INSERT INTO files (sha256, data) VALUES ($1, $2) ON CONFLICT DO NOTHING"
            await self._reader.fetch(insert, digest, data, timeout=time_for(len(data)))
        return digest.hex()

    async def get(self, sha256: str) -> bytes:
        """Return the bytes. Raises `NotFound`; `Damaged` where they do not have that hash; `StorageFailed`."""
        if not _SHA256.fullmatch(sha256):
            raise _missing(sha256)
        digest = bytes.fromhex(sha256)
        if digest in self._held:
            return self._held[digest]
        rows = await self._reader.fetch(_GET, digest, _AT_ONCE)
        if rows and rows[0][1] is None:
            rows = await self._reader.fetch(_GET, digest, MOST_BYTES, timeout=time_for(rows[0][0]))
        if not rows:
            raise _missing(sha256)
        data: bytes = rows[0][1]
        if await _digest(data) != digest:
            raise Damaged(f"the stored file {sha256} has other bytes by now")
        return data

    async def has(self, sha256s: Sequence[str]) -> Mapping[str, bool]:
        """Tell which are there. Raises `StorageFailed`."""
        held = {digest.hex() for digest in self._held}
        asked = [bytes.fromhex(sha256) for sha256 in sha256s if _SHA256.fullmatch(sha256)]
        rows = await self._reader.fetch("SELECT sha256 FROM files WHERE sha256 = ANY($1::bytea[])", asked)
        there = {row[0].hex() for row in rows} | held
        return {sha256: sha256 in there for sha256 in sha256s}

    async def sizes(self) -> Mapping[str, int]:
        """Return how many bytes each file has. Raises `StorageFailed`."""
        held = {digest.hex(): len(data) for digest, data in self._held.items()}
        rows = await self._reader.fetch("SELECT encode(sha256, 'hex'), octet_length(data) FROM files")
        return {**held, **{row[0]: row[1] for row in rows}}

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Be the only one that has the store open for writing. See `FileStore.alone`."""
        async with self.writable().alone():
            yield

    async def remove(self, sha256s: Iterable[str]) -> None:
        """Remove files. See `FileStore.remove`; raises `StorageFailed`."""
        writer = self.writable()
        writer.check_alone()
        await writer.flush()  # what is held is there before it is removed
        wanted = [bytes.fromhex(sha256) for sha256 in sha256s if _SHA256.fullmatch(sha256)]
        for start in range(0, len(wanted), _REMOVED):
            some = wanted[start : start + _REMOVED]

            async def delete(connection: Connection, _: Again, some: Sequence[bytes] = some) -> None:
                writer.check_alone()
                await connection.execute("DELETE FROM files WHERE sha256 = ANY($1::bytea[])", some)

            await writer.transact(delete)

    async def compact(self) -> int:
        """Have PostgreSQL use the room again, and give back what lies at the ends of its files; return how many bytes.

        Only within `alone`. Room in the middle of its files is used for what is written next; `VACUUM FULL`, which
        writes them anew, is left to whoever looks after the server. Raises `StorageFailed`.
        """
        self.writable().check_alone()

        async def vacuum(connection: Connection) -> int:
            before = int(await connection.fetchval(_SIZE))
            for table in ("files", "events", "marks", "runs"):
                await connection.execute(f"VACUUM (ANALYZE) {table}", timeout=_COMPACTING_S)
            return max(before - int(await connection.fetchval(_SIZE)), 0)

        return await self._reader.ask(vacuum)

    @property
    def _held(self) -> Mapping[bytes, bytes]:
        return {} if self._writer is None else self._writer.held

    def writable(self) -> Writer:
        """Return what writes. Raises `StorageFailed` where nothing is written, or no more."""
        if self._writer is None:
            raise StorageFailed(f"{self._server.name} is open for reading only")
        self._writer.check_writable()
        return self._writer


async def _digest(data: bytes) -> bytes:
    """Return the SHA-256 of a file; of a large one a thread finds it, since others wait for the loop."""
    if len(data) > SMALL_BYTES:
        return await asyncio.to_thread(lambda: hashlib.sha256(data).digest())
    return hashlib.sha256(data).digest()


def _missing(sha256: str) -> NotFound:
    return NotFound(f"there is no file {sha256!r} in the store")
