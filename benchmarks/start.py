"""What a person waits for before anything happens: importing, and asking for help."""

import subprocess
import sys
from time import perf_counter

from benchmarks.harness import Benchmark

TIMES = 5


def process(*arguments: str) -> float:
    """Return the seconds that a few whole processes take."""
    begun = perf_counter()
    for _ in range(TIMES):
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return perf_counter() - begun


def asyncio_alone() -> float:
    return process("-c", "import asyncio")


BENCHMARKS = [
    Benchmark("import swarm / import asyncio", lambda: process("-c", "import swarm"), asyncio_alone, 0.5, TIMES),
    Benchmark("swarm --help / import asyncio", lambda: process("-m", "swarm", "--help"), asyncio_alone, 0.25, TIMES),
]
