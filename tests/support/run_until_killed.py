"""Run a scenario and be killed at a position of its log: `python FILE FOLDER SCENARIO.json POSITION`."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from bus.envelope import Envelope
from tests.support.runs import start


async def main(folder: Path, scenario: Path, position: int) -> None:
    def on_event(envelope: Envelope) -> None:
        if envelope.sequence == position:
            os.kill(os.getpid(), signal.SIGKILL)

    await start(folder, json.loads(scenario.read_text()), on_event=on_event)


asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
