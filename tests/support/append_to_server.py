"""Append to a run on a server, telling each acknowledged position on standard output: `python FILE URL RUN`."""

import asyncio
import sys

from bus.event_log import Mark
from bus.event_logs.postgres import PostgresEventLog
from tests.support.events import OWNER, records


async def main(url: str, run: str) -> None:
    async with PostgresEventLog(url) as log:
        epoch = await log.create(run, OWNER)
        position = 0
        while True:
            log.marks.keep(Mark(run, position, "us", b"here"))  # so that an append is more than one statement
            await log.append(run, position, epoch, records(position + 1, position + 2, run=run))
            position += 2
            print(position, flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2]))
