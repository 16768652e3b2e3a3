"""The composition root: puts the parts of a run together and owns their lifetimes."""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, nullcontext
from functools import partial
from pathlib import Path

from bus import topics
from bus.cards import RoleCard
from bus.envelope import Envelope, Stamp
from bus.events import (
    AgentLeft,
    AssignmentEnded,
    Event,
    Fact,
    PlanRequested,
    ReviewRequested,
    RunPaused,
    SubtaskAssigned,
)
from bus.setup import RoleSetup
from bus.store import Store
from swarm.core.state import RunState
from swarm.orchestration.link import Link, in_one_process
from swarm.orchestrator import Orchestrator
from swarm.preparation.parts import Parts
from swarm.runs.clock import RunClock, utc_now
from swarm.runs.folding import fewer_collections
from swarm.runs.marks import Marker
from swarm.worker import Worker

OnRecord = Callable[[Envelope], None]

INBOX = 4096
"""Messages that may wait for an orchestrator."""

LACKING_S = 5.0
"""How long a role may lack agents elsewhere, since they declined or left, before this process brings one of its own."""

PATIENCE_S = 10.0
"""How long the roles of a run that has ended may take to end, once they are cancelled."""

log = logging.getLogger("swarm.runtime")


def new_id() -> str:
    """Return a random id of 128 bits, in hex."""
    return secrets.token_hex(16)


async def execute(
    state: RunState,
    first: Sequence[Event],
    *,
    store: Store,
    parts: Parts,
    epoch: int,
    work: Path,
    on_record: OnRecord,
    link: Link | None = None,
) -> None:
    """Run a run until it has ended or is paused; `state` is changed in place.

    `link`: an open way to agents, by default one to those of this process alone. Over a broker, this process brings
    agents only for the roles that nobody there offers, or takes requests for. Cancelling pauses the run, with the log
    complete; so does the first error of `on_record`, which is then told no more. Raises it, and what the event log
    raises.
    """
    marker = Marker(store.log.marks, state)
    watcher = _Watcher(on_record)
    async with (
        nullcontext(link) if link else in_one_process() as way,
        AsyncExitStack() as stack,
        asyncio.TaskGroup() as group,
    ):
        own = _OwnAgents(state, group, way, lambda name, role: _worker(name, role, way, store, parts, work))

        def recorded(envelope: Envelope) -> None:
            if watcher.tell(envelope) is not None:
                orchestrator.tell(RunPaused(reason=watcher.why, kind="person"))
            marker.recorded(envelope)
            own.recorded(envelope)

        orchestrator = Orchestrator(
            state=state,
            log=store.log,
            files=store.files,
            bus=way.bus,
            stamp=Stamp(f"/swarm/hub/{way.hub}", new_id, utc_now),
            clock=RunClock(state.elapsed_ms),
            epoch=epoch,
            hub=way.hub,
            on_record=recorded,
            terms=way.terms,
            rights=way.rights,
            backed=way.backed,
        )
        filters = topics.run_replies(way.hub, state.run)
        replies = await stack.enter_async_context(way.bus.subscribe(filters, capacity=INBOX))
        main = group.create_task(orchestrator.run(replies, *first), name="orchestrator")
        own.bring_missing(parts.setup.roles)
        stack.enter_context(way.roster.told(orchestrator.take_agent))
        try:
            with fewer_collections():
                await asyncio.shield(main)
        except asyncio.CancelledError:
            orchestrator.tell(RunPaused(reason="stopped by a person", kind="person"))
            await main
            raise
        finally:
            own.end()
    if watcher.raised is not None:
        raise watcher.raised


class _Watcher:
    """Tells somebody of records until that raises; `raised` is what it raised, and `why` that in words."""

    def __init__(self, on_record: OnRecord) -> None:
        self._on_record = on_record
        self.raised: Exception | None = None
        self.why = ""

    def tell(self, envelope: Envelope) -> Exception | None:
        """Tell of a record; return what was raised, the first time."""
        if self.raised is None:
            try:
                self._on_record(envelope)
            except Exception as error:  # noqa: BLE001 - a stranger's; raised once the run is paused
                self.raised = error
                self.why = f"what watches the run raised {type(error).__name__}: {error}"[:4000]
                return error
        return None


class _OwnAgents:
    """The agents that this process brings to a run: for roles that nobody else offers, or takes requests for."""

    def __init__(
        self, state: RunState, group: asyncio.TaskGroup, way: Link, make: Callable[[str, RoleSetup], Worker]
    ) -> None:
        self._state, self._group, self._way, self._make = state, group, way, make
        self._roles: dict[str, RoleSetup] = {}
        """Those that this process could do itself, and has no agent for yet."""
        self._tasks: list[asyncio.Task[None]] = []
        self._over = False

    def bring_missing(self, roles: Mapping[str, RoleSetup]) -> None:
        """Bring those that nobody offers, of the roles of a run."""
        self._roles = {name: role for name, role in roles.items() if not role.brought}
        for name in [name for name in self._roles if not self._way.roster.offers(name)]:
            self._bring(name)

    def recorded(self, envelope: Envelope) -> None:
        """Take in that an agent may have declined, or gone: who waits for long is worked for here."""
        if self._roles and isinstance(envelope.event, AssignmentEnded | AgentLeft) and self._state.lacking:
            asyncio.get_running_loop().call_later(LACKING_S, self._bring_lacking)

    def end(self) -> None:
        """Let none come any more, and those that are here end."""
        self._over = True
        for task in self._tasks:
            task.cancel()

    def _bring_lacking(self) -> None:
        for name in () if self._over else sorted(self._roles.keys() & self._state.lacking.keys()):
            self._bring(name)

    def _bring(self, name: str) -> None:
        worker = self._make(name, self._roles.pop(name))
        self._way.again.append(worker.reconnected)
        self._tasks.append(self._group.create_task(_at_work(worker), name=f"{worker.agent} is here"))


async def _at_work(worker: Worker) -> None:
    """Run an agent until cancelled; one whose role goes on all the same is left behind, so that the run can end."""
    now = asyncio.get_running_loop().time
    working = asyncio.create_task(worker.run(), name=worker.agent)
    until: float | None = None
    while not working.done() and (until is None or now() < until):
        try:
            await asyncio.wait((working,), timeout=None if until is None else until - now())
        except asyncio.CancelledError:  # may come more than once
            until = until or now() + PATIENCE_S
            working.cancel()
    if not working.done():
        why = "it goes on although it was cancelled; does it catch CancelledError, by a bare `except:` perhaps?"
        log.warning("role %s is left behind: %s", " or ".join(one.name for one in worker.roles), why)
    elif not working.cancelled():
        working.result()  # raises what it raised as it ended
    if until is not None:
        raise asyncio.CancelledError


def _worker(name: str, role: RoleSetup, link: Link, store: Store, parts: Parts, work: Path) -> Worker:  # noqa: PLR0917
    """Return this process's agent for a role."""
    agent = link.agent(name)
    return Worker(
        agent=agent,
        roles=(RoleCard(name=name, handles=_HANDLES.get(name, SubtaskAssigned).__name__),),
        workshop=parts,
        bus=link.bus,
        stamp=Stamp(f"/swarm/agent/{agent}", new_id, utc_now),
        files=lambda _: store.files,
        work=work,
        slots=min(role.agents, parts.setup.limits.parallel),
        terms=link.terms,
        nonce=new_id() if link.elsewhere else "",
        present=partial(link.roster.present, agent),  # it has this run's parts, and costs whoever runs it
    )


_HANDLES: dict[str, type[Fact]] = {"planner": PlanRequested, "critic": ReviewRequested}
