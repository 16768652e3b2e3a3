"""A model endpoint in a process of its own: `python -m benchmarks.endpoint SUBTASKS LATENCY_S` says its URL and serves.

`planner` answers a plan of that many subtasks side by side, `worker` one sentence, `critic` that all is well. Its time
counts for nobody.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.words import SENTENCE, instruction
from tests.support.endpoint import ChatEndpoint


def answers(subtasks: int) -> dict[str, str]:
    plan = [{"id": f"part-{number}", "role": "coder", "do": instruction(number)} for number in range(subtasks)]
    return {
        "planner": json.dumps({"subtasks": plan}),
        "worker": SENTENCE,
        "critic": json.dumps({"reasons": "All words are explained.", "accepted": True}),
    }


@contextmanager
def serving(subtasks: int, latency_s: float) -> Iterator[str]:
    """Lend the URL of an endpoint in a child process."""
    command = [sys.executable, "-m", "benchmarks.endpoint", str(subtasks), str(latency_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield child.stdout.readline().strip()
        finally:
            child.terminate()


async def serve(subtasks: int, latency_s: float) -> None:
    known = answers(subtasks)
    async with ChatEndpoint(lambda body: known[body["model"]], latency_s=latency_s, keep=1) as endpoint:
        print(endpoint.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2])))
