"""The tables in PostgreSQL: made where they are not there, and brought up to date, in one transaction.

Whoever opens the store for writing does so, one at a time; it either happens as a whole or not at all. The lock goes
with the connection, which is closed where that fails.
"""

from bus.errors import NotFound, StorageFailed, TooNew
from bus.postgres.server import SCHEMA, Connection

LOCKS = 0x5357524D
"""The first of the two numbers of all our advisory locks."""
MIGRATING = 1

# `runs` holds where each run stands, so that one UPDATE can check owner and position and move both on: the fence.
# Nothing that an append changes is indexed and each page has room, so that a run's row stays on its page. `events`
# has no foreign key, which would look every run up again for every record; the UPDATE has just done so. `total`: bytes
# of the run's own lines up to this one. `removed`: the run is there for its forks only. `cleanings`: how often
# somebody was alone with the files.
STEPS = [
    """
CREATE TABLE state (schema_version integer NOT NULL, cleanings bigint NOT NULL DEFAULT 0);
INSERT INTO state (schema_version) VALUES (0);
CREATE TABLE runs (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, run text COLLATE "C" NOT NULL UNIQUE,
  epoch bigint NOT NULL DEFAULT 1, created text NOT NULL DEFAULT '', host text, pid bigint, started text,
  parent bigint REFERENCES runs (number), parent_position bigint NOT NULL DEFAULT 0,
  imported boolean NOT NULL DEFAULT false, removed boolean NOT NULL DEFAULT false,
  length bigint NOT NULL, head bytea NOT NULL, total bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
CREATE INDEX runs_by_parent ON runs (parent);
CREATE INDEX runs_removed ON runs (number) WHERE removed;
CREATE TABLE events (
  run bigint NOT NULL, position bigint NOT NULL, total bigint NOT NULL, hash bytea NOT NULL, line bytea NOT NULL,
  PRIMARY KEY (run, position)
);
CREATE TABLE files (sha256 bytea PRIMARY KEY, data bytea NOT NULL);
CREATE TABLE marks (
  run bigint NOT NULL REFERENCES runs (number) ON DELETE CASCADE, position bigint NOT NULL, hash bytea NOT NULL,
  maker text NOT NULL, data bytea NOT NULL, PRIMARY KEY (run, position)
);
CREATE TABLE hubs (
  host text NOT NULL, pid bigint NOT NULL, started text NOT NULL, seen timestamptz NOT NULL,
  PRIMARY KEY (host, pid, started)
) WITH (fillfactor = 50);
"""
]
"""What makes the next version of each, from version 0, which has no tables."""


async def bring_up_to_date(connection: Connection, name: str) -> None:
    """Make or upgrade the tables where that is needed. Raises `TooNew`; `name`: the server's, for people."""
    if await _version(connection, name) == len(STEPS):
        return  # with no right to create anything
    # Locked before the transaction begins: within one, a session may go on believing that there is no such table.
    await connection.execute("SELECT pg_advisory_lock($1, $2)", LOCKS, MIGRATING)
    version = await _version(connection, name)  # asked again: now nobody else can be making them
    if version < len(STEPS):
        async with connection.transaction():
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            for step in STEPS[version:]:
                await connection.execute(step)
            await connection.execute("UPDATE state SET schema_version = $1", len(STEPS))
    await connection.execute("SELECT pg_advisory_unlock($1, $2)", LOCKS, MIGRATING)


async def check_readable(connection: Connection, name: str) -> None:
    """Raise unless the tables can be read as they are: `NotFound`, `TooNew`, `StorageFailed`."""
    version = await _version(connection, name)
    if version == 0:
        raise NotFound(f"{name} has no tables of ours: nothing has been run there")
    if version < len(STEPS):
        raise StorageFailed(f"{name} has tables of an older version (schema {version}): let a run or hub upgrade them")


async def _version(connection: Connection, name: str) -> int:
    if await connection.fetchval("SELECT to_regclass($1)::text", f"{SCHEMA}.state") is None:
        return 0
    version = int(await connection.fetchval("SELECT schema_version FROM state"))
    if version > len(STEPS):
        raise TooNew(f"{name} was written by a newer version of eventswarm (schema {version}); upgrade to use it")
    return version
