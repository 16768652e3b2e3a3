"""What a step of a role costs, in time and in bytes of the log; and what the chain of hashes adds to an append.

The role asks its model 1,000 times, one question a conversation, and is answered at once: what is left is ours. The
reference commits, once a step and durably, as many and as long lines to bare SQLite as the log has of a step.
"""

import asyncio
import tempfile
from functools import cache
from pathlib import Path
from time import perf_counter
from unittest.mock import patch

import swarm
from agents.model import EndpointHealth, ModelReply, ModelRequest
from benchmarks.event_log import OWNER, bare, envelopes, in_a_folder
from benchmarks.harness import Absolute, Benchmark
from bus.codec import encode
from bus.envelope import Envelope
from bus.event_logs import sqlite
from bus.event_logs.sqlite import SqliteEventLog
from bus.events import ModelAnswered, ModelAsked, ResultSubmitted, SubtaskAssigned, Usage

STEPS = 1_000
EARLY, WINDOW = 100, 50
APPENDS, EACH = 20, 256
"""As many to a commit as the orchestrator takes at most: there a commit hides the least."""
ROLE = '''\
from swarm import Context, ResultSubmitted, Role, SubtaskAssigned


class Walker(Role[SubtaskAssigned, ResultSubmitted]):
    """Asks again and again."""

    name = "walker"
    handles = SubtaskAssigned

    async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
        for step in range(1000):
            await ctx.converse("You answer.", f"Step {step:4}: which way, and why that one and no other?")
        return ctx.result("there")
'''


class Instant:
    """A model that answers at once."""

    def __init__(self) -> None:
        self.health = EndpointHealth()

    async def ask(self, _: ModelRequest) -> ModelReply:
        """Say always the same."""
        return ModelReply("The left one: it is the shorter.", Usage(input=30, output=9), (), "stop")

    async def close(self) -> None:
        """Nothing is open."""


def scenario(folder: Path) -> swarm.Scenario:
    (folder / "walker.py").write_text(ROLE, encoding="utf-8")
    (folder / "answers.yaml").write_text("[]", encoding="utf-8")
    written = {
        "name": "steps",
        "goal": "Walk.",
        "model": "scripted:answers.yaml",
        "roles": {"walker": {"uses": "./walker.py:Walker"}},
        "plan": [{"id": "walk", "role": "walker", "do": "Walk."}],
        "accept": [{"text": "none.txt", "max_words": 5}],
        "limits": {"tokens": "100M", "attempts": 1, "rounds": 1},
    }
    return swarm.Scenario.from_dict(written, folder=folder)


async def walk(folder: Path) -> tuple[float, list[Envelope]]:
    """Walk once; return the seconds between the first question and the result, and all that was recorded."""
    told: list[Envelope] = []
    times: dict[type, float] = {}

    def on_event(envelope: Envelope) -> None:
        told.append(envelope)
        times.setdefault(type(envelope.event), perf_counter())

    with patch("swarm.preparation.open_models.open_model", lambda *_: Instant()):
        await swarm.run(scenario(folder), home=folder / "home", out=folder / "out", on_event=on_event)
    if sum(isinstance(envelope.event, ModelAnswered) for envelope in told) != STEPS:
        raise RuntimeError("not the walk that was meant")
    return times[ResultSubmitted] - times[SubtaskAssigned], told


def steps_ours(folder: Path) -> float:
    return asyncio.run(walk(folder))[0]


@cache
def lines() -> list[tuple[bytes, ...]]:
    """Return what the log has of each step."""
    with tempfile.TemporaryDirectory() as folder:
        _, told = asyncio.run(walk(Path(folder)))
    asked = [encode(one) for one in told if isinstance(one.event, ModelAsked)]
    answered = [encode(one) for one in told if isinstance(one.event, ModelAnswered)]
    return [*zip(asked, answered, strict=True)]


def steps_reference(folder: Path) -> float:
    """Commit the lines of one step after the other to bare SQLite."""
    steps = lines()
    connection = bare(folder)
    begun = perf_counter()
    for step, written in enumerate(steps):
        connection.execute("BEGIN IMMEDIATE")
        for line in written:
            connection.execute("INSERT INTO events (run, position, line) VALUES ('walk', ?, ?)", (step, line))
        connection.execute("COMMIT")
    seconds = perf_counter() - begun
    connection.close()
    return seconds


def growth() -> float:
    """Return the bytes of a late step against those of an early one."""
    sizes = [sum(map(len, step)) for step in lines()]
    return sum(sizes[-WINDOW:]) / sum(sizes[EARLY : EARLY + WINDOW])


def append(folder: Path) -> float:
    return asyncio.run(_append(folder))


def append_unchained(folder: Path) -> float:
    """Append the same without computing a hash."""
    with patch.object(sqlite, "link", lambda previous, _: previous):
        return append(folder)


async def _append(folder: Path) -> float:
    records = envelopes(APPENDS * EACH, "run")
    async with SqliteEventLog(folder) as log:
        epoch = await log.create("run", OWNER)
        begun = perf_counter()
        for start in range(0, len(records), EACH):
            await log.append("run", start, epoch, records[start : start + EACH])
        return perf_counter() - begun


BENCHMARKS = (
    Benchmark(
        "append in batches of 256 / the same without the chain of hashes",
        in_a_folder(append),
        in_a_folder(append_unchained),
        1 / 1.1,
        APPENDS * EACH,
    ),
    Benchmark(
        "a step of a role, answered at once / a durable commit of its lines",
        in_a_folder(steps_ours),
        in_a_folder(steps_reference),
        1 / 1.5,
        STEPS,
    ),
    Absolute("bytes of the log for a step, at the end / at step 100", growth, "x", 1.05),
)
