"""A client of the hubs on a bus: submits runs, follows them, asks about them, and moves its own.

A call is a note on the client's topic with an id of its own; the hub that it names answers, or, where it names none,
the one that it concerns. What a hub says is checked as anything from a bus is.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast, get_args

import orjson
from pydantic import JsonValue
from pydantic_core import from_json

from bus import codec, topics
from bus.broker_address import BrokerAddress
from bus.cards import read_hub_card
from bus.courier import Courier, route_of_client
from bus.courier_parcels import CourierParcels
from bus.envelope import Envelope
from bus.errors import BadEnvelope, BusError, BusUnavailable
from bus.event_log import Files
from bus.events import GoalAccepted, GoalFailed, RunPaused
from bus.file_store import MemoryFileStore
from bus.pubsub import Bus, Inbox, Note, Received
from bus.setup import FileRef
from bus.transports.mqtt import MqttTransport
from swarm.core.apply import apply
from swarm.core.state import RunState
from swarm.errors import Fault, FaultKind, MissingPart, ScenarioError, UsageError
from swarm.submissions.submission import Submission

ANSWER_S = 10.0
"""How long a hub may take to answer."""
ASK_AGAIN_S = 3.0
CARDS_S = 1.5
"""How long the cards of hubs may take to come."""
STOPS = (GoalAccepted, GoalFailed, RunPaused)
"""After these a run goes on only if somebody resumes it."""


@dataclass(slots=True)
class Client:
    """One client. Made by `client_on`."""

    bus: Bus
    name: str
    """`user/instance`."""
    hubs: dict[str, str] = field(default_factory=dict)
    """The hubs that are there, with their versions."""
    courier: Courier = field(init=False)
    """Brings the files of submissions, and takes those of outcomes."""
    _places: dict[str, str] = field(default_factory=dict)
    """Run -> hub that has it."""
    _waiting: dict[str, asyncio.Future[Note]] = field(default_factory=dict)
    _seen: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.courier = Courier(self.bus, route_of_client(self.name), MemoryFileStore())

    def files(self, hub: str, run: str) -> Files:
        """Return the files of a run at a hub."""
        return self.courier.files(lambda: hub, run)

    async def fetch(self, run: str, refs: Iterable[FileRef]) -> MemoryFileStore:
        """Return files of a run, fetched from a hub that has it. Raises `MissingPart`, and what `Files.get` does."""
        files, store = self.files(self.hub_of(run), run), MemoryFileStore()
        for ref in refs:
            await store.put(await files.get(ref.sha256))
        return store

    async def run(self) -> None:
        """Take answers and cards in until cancelled."""
        mine = topics.client_answer(self.name)
        async with self.bus.subscribe(mine, topics.hub_cards(), kinds=Note, capacity=1024) as inbox:
            self._seen.set()
            async for received in inbox:
                self._take(received)
                received.acknowledge()

    async def ready(self) -> None:
        """Wait until answers and files would be heard, and hubs have said their cards."""
        await self._seen.wait()
        await self.courier.listening()
        async with asyncio.timeout(CARDS_S + 5):
            for _ in range(30):
                if self.hubs:
                    return
                await asyncio.sleep(CARDS_S / 30)

    def _take(self, received: Received[Note]) -> None:
        address, note = topics.parse(received.topic), received.content
        if address.kind == "hub_card":
            try:
                self.hubs[address.hub] = read_hub_card(note).software
            except BadEnvelope:
                self.hubs.pop(address.hub, None)
            return
        waiting = self._waiting.pop(str(note.fields.get("id", "")), None)
        if waiting is not None and not waiting.done():
            waiting.set_result(note)

    async def call(self, kind: str, *, hub: str | None = None, **fields: object) -> Note:
        """Ask, and return the answer. Raises `ScenarioError`, `UsageError` where it is refused, `MissingPart`."""
        call_id = secrets.token_hex(16)
        future: asyncio.Future[Note] = asyncio.get_running_loop().create_future()
        self._waiting[call_id] = future
        told = {"id": call_id, **fields} | ({"hub": hub} if hub else {})
        try:
            async with asyncio.timeout(ANSWER_S):
                while not future.done():  # to ask twice is the same as once
                    await self.bus.publish_note(topics.submission(self.name), Note(kind, told))
                    await asyncio.wait((future,), timeout=ASK_AGAIN_S)
            answer = future.result()
        except TimeoutError:
            there = ", ".join(sorted(self.hubs)) or "none any more"
            raise MissingPart(f"no hub answers within {ANSWER_S:g} s (there: {there}).") from None
        finally:
            self._waiting.pop(call_id, None)
        if answer.kind == "refused":
            raise _refusal(answer.fields)
        return answer

    def hub_of(self, run: str) -> str:
        """Return a hub that has a run, as far as we know; any that is there. Raises `MissingPart` where none is."""
        place = self._places.get(run, "")
        return place if place in self.hubs else self.any_hub()

    def any_hub(self) -> str:
        """Return a hub that is there. Raises `MissingPart` where none is."""
        if not self.hubs:
            raise MissingPart("no hub is on this bus.", "Start one: `swarm hub --bus URL`.")
        return secrets.choice(sorted(self.hubs))

    # Runs

    async def find(self, name: str) -> str:
        """Return the run that a person means: an id, a unique beginning of one, or `last`. Raises `UsageError`."""
        hubs = sorted(self.hubs) or [self.any_hub()]
        if name != "last" and await self._is_at(name, hubs):
            return name
        began: dict[str, str] = {}
        for hub in hubs:
            answer = await self.call("list", hub=hub)
            told = answer.fields.get("runs")
            for one in told if isinstance(told, list) else ():
                if isinstance(one, dict) and isinstance(run := one.get("run"), str):
                    began.setdefault(run, str(one.get("created") or ""))
                    self._places.setdefault(run, hub)
        runs = sorted(began, key=lambda run: began[run], reverse=True)
        if name == "last" and runs:
            return runs[0]
        found = [run for run in runs if name and run.startswith(name)]
        if len(found) == 1:
            return found[0]
        what = (
            f"{name!r} could be {len(found)} runs"
            if found
            else f"there is no run {name!r} that you have submitted here"
        )
        raise UsageError(f"{what} ({', '.join((found or runs)[:5]) or 'none'}).")

    async def _is_at(self, run: str, hubs: Sequence[str]) -> bool:
        """Tell whether a run of ours with this very id is at one of the hubs: they do not list all that they have."""
        for hub in hubs:
            try:
                await self.call("lines", hub=hub, run=run)
            except (UsageError, ScenarioError):
                continue
            self._places[run] = hub
            return True
        return False

    async def submit(
        self, submission: Submission, put: Callable[[str, str, str], Awaitable[None]]
    ) -> tuple[str, tuple[str, ...]]:
        """Submit a run; return the hub that has it, and its warnings. `put(hub, run, sha256)` sends one file.

        Raises `MissingPart` where no hub is there, and where none answers: the run may have been taken all the same.
        """
        hub = self.any_hub()
        while True:
            try:
                answer = await self.call("submit", hub=hub, submission=submission)
            except MissingPart as error:
                raise MissingPart(
                    f"{error.reason} The submission was sent, and a hub that comes back may still begin it.",
                    f"Before you submit again, see whether it runs: `swarm show {submission.run} --bus URL`.",
                ) from error
            if answer.kind == "accepted":
                self._places[submission.run] = hub
                told = answer.fields.get("warnings", ())
                return hub, tuple(str(one) for one in told) if isinstance(told, list) else ()
            wanted = answer.fields.get("files")
            known = {ref.sha256 for ref in submission.files}
            if answer.kind != "wants" or not isinstance(wanted, list) or not wanted or not known.issuperset(wanted):
                raise BadEnvelope(f"hub {hub} answers what makes no sense: {answer.kind[:40]!r}")
            for sha256 in wanted:
                await put(hub, submission.run, str(sha256))

    async def lines(self, run: str, start: int = 1, end: int | None = None) -> AsyncIterator[Envelope]:
        """Yield a run's log from a position to another, or to where it ends now."""
        position = start
        while end is None or position <= end:
            answer = await self.call("lines", hub=self.hub_of(run), run=run, **{"from": position})
            found, length = answer.fields.get("lines"), answer.fields.get("length")
            if not isinstance(found, list) or not isinstance(length, int):
                raise BadEnvelope("a hub answers what is no page of a log")
            for line in found:
                envelope = codec.decode(orjson.dumps(line))
                if envelope.sequence != position or envelope.correlation_id != run:
                    raise BadEnvelope(f"a hub answers with another event than that at position {position} of {run}")
                if end is not None and position > end:
                    return
                yield envelope
                position += 1
            if not found or position > length:
                return

    async def follow(self, run: str, start: int = 1) -> AsyncIterator[Envelope]:
        """Yield a run's log from a position on, as it grows, until it has ended or is paused.

        Live events may be lost on the way; what is missing is asked for.
        """
        position = start
        watched = topics.run_events(run), topics.run_outcome(run)
        async with self.bus.subscribe(*watched, capacity=4096) as inbox:
            while True:
                async for envelope in self._patiently(run, position):
                    position = envelope.sequence + 1
                    yield envelope
                    if isinstance(envelope.event, STOPS) and not await self._goes_on(run, position):
                        return
                live = await _live(inbox, position)
                if live is not None and live.sequence == position and live.correlation_id == run:
                    position += 1
                    yield live
                    if isinstance(live.event, STOPS):
                        return

    async def _goes_on(self, run: str, position: int) -> bool:
        async for _ in self.lines(run, position, position):
            return True
        return False

    async def _patiently(self, run: str, position: int) -> AsyncIterator[Envelope]:
        """Yield what the log has by now; nothing where no hub answers just now."""
        try:
            async for envelope in self.lines(run, position):
                yield envelope
        except (MissingPart, BusUnavailable):
            await asyncio.sleep(1.0)


async def _live(inbox: Inbox[Any], position: int) -> Envelope | None:
    """Return the next live event that is not before a position; None where none comes for a while."""
    try:
        async with asyncio.timeout(ANSWER_S):
            while True:
                received = await inbox.get()
                received.acknowledge()
                if not isinstance(received.content, Note) and received.envelope.sequence >= position:
                    return received.envelope
    except TimeoutError:
        return None


async def state_of(client: Client, run: str, end: int | None = None) -> RunState:
    """Return the state of a run at a position, folded here from its log."""
    state = RunState(run)
    async for envelope in client.lines(run, 1, end):
        apply(state, envelope)
    return state


@asynccontextmanager
async def client_on(url: str, *, announce: Callable[[str], None]) -> AsyncIterator[Client]:
    """Be a client on a bus as long as the context lasts. Raises `BusUnavailable`, `BadAddress`, `NotAllowed`."""
    instance = f"cli-{secrets.token_hex(6)}"
    name = f"{BrokerAddress.parse(url).name}/{instance}"
    parcels = CourierParcels(_run_of)
    transport = MqttTransport(url, source=f"/swarm/client/{name}", announce=announce, parcels=parcels)
    async with transport:
        client = Client(Bus(transport), name)
        parcels.courier = client.courier
        task = asyncio.create_task(_both(client), name="client")
        try:
            await _ready(client, task)
            yield client
        finally:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, BusError):
                raise error


def _run_of(payload: bytes) -> str:
    """Return the run of a submission; nothing else that a client says is large. Raises `BadEnvelope`."""
    submission = from_json(payload).get("data", {}).get("submission")
    if not isinstance(submission, dict) or not isinstance(run := submission.get("run"), str):
        raise BadEnvelope(f"a message of {len(payload):,} bytes is too large, and no submission")
    return run


async def _both(client: Client) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(client.run(), name="answers")
            group.create_task(client.courier.run(), name="files")
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None  # both are of one connection, and fail of the same


async def _ready(client: Client, at_work: asyncio.Task[None]) -> None:
    """Wait until the client is ready. Raises what its task ends with before."""
    ready = asyncio.create_task(client.ready(), name="ready")
    try:
        await asyncio.wait({ready, at_work}, return_when=asyncio.FIRST_COMPLETED)
        await (ready if ready.done() else at_work)
    finally:
        ready.cancel()


def _refusal(fields: Mapping[str, Any]) -> Exception:
    """Return what a hub refused a call with, as the error it would have been here."""
    told = fields.get("errors")
    faults = [_fault(one) for one in told[:50]] if isinstance(told, list) else []
    if not faults:
        return UsageError("a hub refuses this, and does not say why")
    if len(faults) == 1 and not faults[0].field:
        return UsageError(faults[0].message)
    return ScenarioError(faults)


def _fault(one: JsonValue) -> Fault:
    told = one if isinstance(one, dict) else {}
    kind = told.get("kind")
    return Fault(
        cast("FaultKind", kind) if kind in get_args(FaultKind) else "value",
        str(told.get("message", ""))[:2000],
        field=str(told.get("field") or "")[:200],
        hint=str(told.get("hint") or "")[:1000],
    )
