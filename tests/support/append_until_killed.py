"""Append to a run, telling each acknowledged position on standard output: `python FILE FOLDER RUN FIRST [LAST]`."""

import asyncio
import sys

from bus.event_logs.sqlite import SqliteEventLog
from bus.file_store import SMALL_BYTES
from tests.support.events import OWNER, records


async def main(folder: str, run: str, first: int, last: int) -> None:
    async with SqliteEventLog(folder) as log:
        if first == 1:
            epoch = await log.create(run, OWNER)
        else:
            epoch = await log.take(run, OWNER, previous=OWNER)
        position = first - 1
        while position < last:
            batch = records(position + 1, position + 1 + position % 3, run=run)
            small = await log.files.put(b"%d" % position)
            large = await log.files.put(b"%d" % position * SMALL_BYTES) if position % 10 == 0 else small
            await log.append(run, position, epoch, batch)
            position += len(batch)
            print(position, small, large, flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
