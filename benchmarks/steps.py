"""What a step of a role costs: in time, in bytes of the log, and what the chain of hashes adds to an append.

The role asks its model 1,000 times, one question a step, and the model answers at once; so what is left is ours. The
reference commits two lines a step as large as the log's own (the question, the answer) to bare SQLite, durably.
"""

import hashlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

import swarm
from benchmarks.event_log import ONE_WRITER, bare, in_a_folder, one_writer_ours
from benchmarks.harness import Absolute, Benchmark
from bus.codec import encode
from bus.event_logs import sqlite
from bus.event_logs.sqlite import SqliteEventLog
from bus.events import ModelAnswered, ModelAsked

STEPS = 1_000
EARLY, LATE = 100, 1_000
ROLE = '''\
from swarm import Context, ResultSubmitted, Role, SubtaskAssigned


class Walker(Role[SubtaskAssigned, ResultSubmitted]):
    """Asks again and again."""

    name = "walker"
    handles = SubtaskAssigned

    async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
        for step in range({steps}):
            await ctx.converse("You answer.", f"Step {{step}}: which way, and why that one and no other?")
        return ctx.result("there")
'''
