"""How long it takes until work goes on elsewhere: of an agent killed or halted, of a hub killed or halted.

A killed agent is seen by its broker at once, and may come back for a while as the same process. A halted one keeps its
connection open: its keepalive has to run out first, or its lease. A hub's death is seen by another hub of its store.
"""

import asyncio
import signal
import tempfile
from time import perf_counter

from benchmarks.harness import Absolute
from benchmarks.swarms import ROOM, child
from swarm.orchestration.terms import Terms
from tests.support.broker import broker
from tests.support.postgres import clean_url

KEEPALIVE_S = 5.0
ONE_AND_A_HALF = 1.5
"""A broker waits so many keepalives (MQTT 5, 3.1.2.10)."""


async def agent_lost(how: signal.Signals) -> float:
    """Return the seconds from a signal to an agent with work until another has done that work."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            broker(extra=ROOM) as running,
            child("hub", running.url, f"{folder}/home", "hub-1") as hub,
            child("agent", running.url, f"{folder}/1", "agent-1", "--takes", "600") as first,
        ):
            await hub.do("agents 1")
            await hub.do("begin run 1 1")
            await asyncio.sleep(1.0)
            async with child("agent", running.url, f"{folder}/2", "agent-2"):
                await hub.do("agents 2")
                begun = perf_counter()
                first.process.send_signal(how)
                await hub.do("results 1")
                return perf_counter() - begun


async def hub_lost(how: signal.Signals) -> float:
    """Return the seconds from a signal to a hub until another has recorded a result of its run."""
    url = clean_url()
    with tempfile.TemporaryDirectory() as folder:
        async with (
            broker(extra=ROOM) as running,
            child("hub", running.url, url, "hub-1") as first,
            child("hub", running.url, url, "hub-2") as second,
            child("agent", running.url, f"{folder}/1", "agent-1", "--takes", "0.5", "--slots", "1"),
        ):
            await first.do("agents 1")
            await first.do("begin run 100 1")
            await first.do("results 2")
            begun = perf_counter()
            first.process.send_signal(how)
            await second.do("results 1")
            return perf_counter() - begun


TERMS = Terms()
BENCHMARKS = (
    Absolute("a killed agent's work done by another", lambda: agent_lost(signal.SIGKILL), "s", TERMS.rejoin_s + 2),
    Absolute(
        "a halted agent's work done by another",
        lambda: agent_lost(signal.SIGSTOP),
        "s",
        ONE_AND_A_HALF * KEEPALIVE_S + TERMS.rejoin_s + 5,
    ),
    Absolute("a killed hub's run gone on with by another", lambda: hub_lost(signal.SIGKILL), "s", 10),
    Absolute("a halted hub's run gone on with by another", lambda: hub_lost(signal.SIGSTOP), "s", 10),
)
