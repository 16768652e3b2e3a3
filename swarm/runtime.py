"""The composition root: puts the parts of a run together and owns their lifetimes."""

import asyncio
import gc
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from bus import topics
from bus.cards import RoleCard
from bus.envelope import Envelope, Stamp
from bus.event_log import EventLog
from bus.events import Event, RunPaused
from bus.lookup import load
from bus.pubsub import Bus
from bus.store import Store
from bus.transports import TRANSPORTS
from swarm.clock import RunClock, utc_now
from swarm.core.apply import apply
from swarm.core.state import RunState
from swarm.marks import EVERY, Marker, keep, nearest
from swarm.orchestrator import Orchestrator
from swarm.parts import Parts
from swarm.roster import Roster
from swarm.worker import Worker

if TYPE_CHECKING:
    from bus.transport import Transport

HUB = "local"
OnRecord = Callable[[Envelope], None]

INBOX = 4096
"""Messages that may wait for an orchestrator."""

YOUNG_OBJECTS = 10_000
"""How many objects come to be, while a run is under way, before Python looks for cycles among them."""


def new_id() -> str:
    """Return a random id of 128 bits, in hex."""
    return secrets.token_hex(16)


async def fold(log: EventLog, run: str, *, end: int | None = None) -> RunState:
    """Return the state of a run at a position of its log, by default the last. Raises what `EventLog.read` does.

    What had to be folded at length is marked, so that it need not be another time.
    """
    state = await nearest(log, run, end)
    begun = state.position
    with fewer_collections():
        async for envelope in log.read(run, begun + 1, end):
            apply(state, envelope)
    if state.position - begun > 2 * EVERY:
        keep(log.marks, state)
    return state


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Let Python's collector of cycles run less often, if its owner has not set it otherwise.

    A run makes many objects that live until it ends, and next to no cycles. Measured with 512 subtasks: collections
    took a third of the CPU time at Python's own threshold of 700, a tenth at 10,000, no less at 50,000.
    """
    before = gc.get_threshold()
    if not 0 < before[0] < YOUNG_OBJECTS:  # off, or rarer already: somebody's choice, or another run's doing
        yield
        return
    gc.set_threshold(YOUNG_OBJECTS, *before[1:])
    try:
        yield
    finally:
        if gc.get_threshold()[0] == YOUNG_OBJECTS:
            gc.set_threshold(*before)


async def execute(
    state: RunState, first: Sequence[Event], *, store: Store, parts: Parts, epoch: int, work: Path, on_record: OnRecord
) -> None:
    """Run a run, in one process, until it has ended or is paused; `state` is changed in place.

    Cancelling pauses the run, with the log complete. Raises what the event log raises.
    """
    setup = parts.setup
    clock = RunClock(state.elapsed_ms)
    marker = Marker(store.log.marks, state)

    def recorded(envelope: Envelope) -> None:
        on_record(envelope)
        if envelope.sequence == state.position:  # the last of its batch: the log has all that the state has
            marker.look()

    in_memory = cast("Transport", cast("Any", load("memory", TRANSPORTS))())
    async with in_memory as transport, AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        bus = Bus(transport)
        roster = Roster(bus)
        orchestrator = Orchestrator(
            state,
            store.log,
            store.files,
            bus,
            Stamp(f"/swarm/hub/{HUB}", new_id, utc_now),
            clock,
            epoch,
            HUB,
            recorded,
        )
        replies = await stack.enter_async_context(bus.subscribe(topics.run_replies(HUB, state.run), capacity=INBOX))
        main = group.create_task(orchestrator.run(replies, *first), name="orchestrator")
        workers = [
            Worker(
                agent=f"{HUB}/{name}",
                roles=(RoleCard(name=name),),
                workshop=parts,
                bus=bus,
                stamp=Stamp(f"/swarm/agent/{HUB}/{name}", new_id, utc_now),
                files=lambda _: store.files,
                work=work,
                slots=min(role.agents, setup.limits.parallel),
            )
            for name, role in setup.roles.items()
        ]
        tasks = [group.create_task(roster.run(), name="roster")]
        tasks += [group.create_task(worker.run(), name=worker.agent) for worker in workers]
        stack.enter_context(roster.told(orchestrator.take_agent))
        try:
            with fewer_collections():
                await asyncio.shield(main)
        except asyncio.CancelledError:
            orchestrator.tell(RunPaused(reason="stopped by a person", kind="person"))
            await main
            raise
        finally:
            for task in tasks:
                task.cancel()
