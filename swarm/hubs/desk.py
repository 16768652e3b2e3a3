"""Where a hub talks with clients: runs submitted, asked about, paused, resumed, cancelled.

Whoever is allowed to publish on a client's topic is that client, which the broker proves; of a run it learns, and it
moves, only what its own user submitted. What it says is hostile until it is checked: each fault is an answer, not a
failure of the hub.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from pydantic import JsonValue, ValidationError

from agents.briefing import Offer
from agents.errors import AgentsError
from bus import topics
from bus.codec import LARGEST_EXACT
from bus.errors import BusError, Conflict, LogError, NotFound
from bus.event_log import RunInfo
from bus.events import CancelAsked, Event, GoalSubmitted, RunPaused, RunResumed
from bus.pubsub import Note, Received
from bus.setup import Limits
from swarm.core.doubts import doubts
from swarm.core.state import VERDICTS
from swarm.errors import Fault, ScenarioError, SwarmError, UsageError
from swarm.hubs.client_files import ClientFiles
from swarm.hubs.hub import Hub
from swarm.hubs.hub_config import HubConfig
from swarm.hubs.unpacking import unpack
from swarm.latest import keep
from swarm.preparation.preparing import prepare_for_agents
from swarm.runs.folding import fold
from swarm.scenario.file import LARGEST_LIMITS
from swarm.scenario.trust import role_hashes
from swarm.settings import Settings
from swarm.submissions.submission import MOST_FAULTS, Submission
from swarm.version import VERSION

PAGE_BYTES = 48 * 1024
"""Of a log's lines, in one answer."""
MOST_LISTED = 200
"""Runs of one user in one answer, the newest."""
REMEMBERED = 65_536
"""Runs of which is kept who submitted them."""
NO_FOLDER = Path("/nowhere")
"""What a submitted run calls its scenario's folder: there is none here."""

Answer = Mapping[str, object]

log = logging.getLogger("swarm.hub")


@dataclass(slots=True)
class Desk:
    """The clients of one hub."""

    hub: Hub
    config: HubConfig
    settings: Settings
    files: ClientFiles
    dropped: Counter[str] = field(default_factory=Counter)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it listens."""
    _submitters: dict[tuple[str, str], str] = field(default_factory=dict)
    """Who submitted a run that began at some time: asked of all runs for each list."""

    async def run(self) -> None:
        """Answer clients until cancelled."""
        async with (
            self.hub.bus.subscribe(topics.submissions(), kinds=Note, capacity=1024) as inbox,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(self.files.keep_sweeping(), name="clients' files are swept")
            self.started.set()
            room = asyncio.Semaphore(64)

            async def answered(received: Received[Note]) -> None:
                try:
                    await self._answer(received)
                finally:
                    received.acknowledge()
                    room.release()

            async for received in inbox:
                await room.acquire()
                group.create_task(answered(received), name="client")

    async def _file(self, client: str, note: Note) -> None:
        """Take or give a part of a file: for a submission that waits, or of a run's outcome."""
        run = str(note.fields.get("run", ""))
        if not self.files.heard(client, run) and not await self._let_in(client, run, note):
            return
        answer = await self.files.shelf.answer(client, note)
        if answer is not None:
            await self._publish(topics.client_files(client), answer)

    async def _let_in(self, client: str, run: str, note: Note) -> bool:
        """Let a client that is new here have or bring what it may; tell whether it is to be answered by this hub."""
        if note.fields.get("parcel") is True:
            if note.kind != "put":
                return True
            if not self.config.may_submit(client.partition("/")[0]):
                return False
            self.files.expect(client, run)
            return True
        try:
            await self._grant(client, run)
        except (UsageError, BusError):
            return note.fields.get("hub") is not None  # else another hub may have the run
        return True

    async def _grant(self, client: str, run: str) -> None:
        """Let a client have the files of a run of its own."""
        if run in self.hub.runs:
            return  # its files are for when it has ended
        info = await self._mine(client, {"run": run})
        state = await fold(self.hub.store.log, info.run)
        if state.ended is not None:
            files = [*state.tree.values(), *state.ended.files]
            self.files.give(client, run, [ref.sha256 for ref in files])

    async def _answer(self, received: Received[Note]) -> None:
        client, note = topics.parse(received.topic).client, received.content
        if note.fields.get("hub", self.hub.name) != self.hub.name:
            return  # it asks another hub
        if note.kind in {"get", "put"}:
            try:
                await self._file(client, note)
            except Exception:
                self.dropped["it cannot be answered"] += 1
                log.exception("a call %r for a file by %s cannot be answered", note.kind, client)
            return
        call = CALLS.get(note.kind)
        call_id = note.fields.get("id")
        if call is None or not isinstance(call_id, str) or len(call_id) > 128:  # noqa: PLR2004 - as long as ids may be
            self.dropped["no call of ours"] += 1
            return
        try:
            kind, answer = await call(self, client, note.fields)
        except ScenarioError as error:
            kind, answer = "refused", {"errors": [dict(fault.as_dict()) for fault in error.faults[:MOST_FAULTS]]}
        except (SwarmError, AgentsError, BusError) as error:
            kind, answer = "refused", _refusal(str(error))
        except Exception:  # a client may ask again, and its broker keeps it for the next hub: each would end by it
            log.exception("a call %r of %s cannot be answered", note.kind, client)
            kind, answer = "refused", _refusal(f"this {note.kind!r} cannot be answered; the hub's log says why")
        if kind:
            await self._say(client, kind, {"id": call_id, "hub": self.hub.name, **answer})

    async def _say(self, client: str, kind: str, fields: Answer) -> None:
        await self._publish(topics.client_answer(client), Note(kind, fields))

    async def _publish(self, topic: str, note: Note) -> None:
        try:
            await self.hub.bus.publish_note(topic, note)
        except BusError as error:
            log.info("not answered on %s: %s", topic, error)

    # Calls

    async def submit(self, client: str, fields: Mapping[str, Any]) -> tuple[str, Answer]:
        """Begin a run; once more for the same run is the same as once."""
        submission = Submission.read(fields.get("submission")).model_copy(update={"client": client})
        run = submission.run
        offered = {
            one.name: Offer(one.name, one.about, one.tools)
            for agent in self.hub.roster.agents.values()
            for one in agent.roles
        }
        unpacked = await asyncio.to_thread(unpack, submission, self.config, folder=NO_FOLDER, offered=offered)
        known = await self._known(run)
        if known is not None and known.length:
            if await self.hub.client_of(run) != client:
                raise UsageError(f"there is a run {run!r} already, and it is somebody else's")
            return "accepted", {"run": run, "again": True}
        brought = self.files.shelf.brought(client, run)  # not what is there: who knows a hash would have the file by it
        missing = sorted({ref.sha256 for ref in submission.files} - brought)
        if missing:
            self.files.wait_for(client, run)
            return "wants", {"run": run, "files": missing}
        setup = await prepare_for_agents(
            unpacked.scenario, self.settings, models=submission.models, elsewhere=unpacked.elsewhere
        )
        first = GoalSubmitted(
            setup=setup,
            workspace=submission.files,
            hashes=role_hashes(setup.roles),
            software=VERSION,
            client=client,
        )
        began = await self.hub.begin(run, first)
        self.files.take_back(client, run)
        if not began:
            self._check_sound(await self.hub.store.log.info(run))
            return "", {}  # another hub was quicker, and answers
        warnings = [
            *unpacked.scenario.warnings,
            *(f"nobody offers the role {one!r} yet: the run waits for it" for one in unpacked.missing_roles),
        ]
        return "accepted", {"run": run, "warnings": warnings}

    async def pause(self, client: str, fields: Mapping[str, Any]) -> tuple[str, Answer]:
        """Pause a run that this hub carries on."""
        return await self._tell(client, fields, RunPaused(reason=f"stopped by {client}", kind="person"))

    async def cancel(self, client: str, fields: Mapping[str, Any]) -> tuple[str, Answer]:
        """End a run that this hub carries on, or that is paused, as it stands."""
        return await self._tell(client, fields, CancelAsked(reason=f"cancelled by {client}"))

    async def resume(self, client: str, fields: Mapping[str, Any]) -> tuple[str, Answer]:
        """Go on with a run that is paused, or has failed at a limit that is raised."""
        info = await self._mine(client, fields)
        self._check_sound(info)
        if info.run in self.hub.runs or info.owner is not None:
            raise UsageError(f"{info.run} is running")
        verdict = fields.get("in_doubt")
        if verdict is not None and verdict not in VERDICTS:
            raise UsageError(f"in_doubt: one of {', '.join(VERDICTS)}")
        state = await fold(self.hub.store.log, info.run)
        if state.setup is None:
            raise UsageError(f"{info.run} has not begun")
        changes = self._raised(fields.get("limits", {}), state.limits)
        if state.status == "accepted":
            raise UsageError(f"{info.run} was accepted: there is nothing left to do.")
        if state.stays_ended(changes):
            raise UsageError(f"{info.run} has ended. Only raised limits reopen it: --set limits.tokens=…")
        settled: list[Event] = []
        if verdict is not None:
            settled = [one.settled(verdict) for one in doubts(state, leases_end=True)]
        await self.hub.go_on(info, [*settled, RunResumed(changes=changes)])
        return "done", {"run": info.run}

    def _raised(self, wanted: object, limits: Limits) -> dict[str, JsonValue]:
        """Return the limits that a client raises. Raises `UsageError` for what is none, or more than is allowed."""
        if not isinstance(wanted, dict) or set(wanted) - set(Limits.model_fields):
            raise UsageError(f"limits: only {', '.join(Limits.model_fields)} can be set")
        try:
            raised = Limits.model_validate(limits.model_dump() | wanted, strict=True)
        except ValidationError as error:
            raise UsageError(f"limits: {error.errors()[0]['msg']}") from error
        for name in wanted:
            value, most = getattr(raised, name), LARGEST_LIMITS[name]
            if value is not None and not 1 <= value <= most:
                raise UsageError(f"limits.{name}: from 1 to {most}")
        for name, most in self.config.limits.items():
            if name in wanted and (getattr(raised, name) is None or getattr(raised, name) > most):
                raise UsageError(f"limits.{name}: this hub allows {most} at most")
        return dict(wanted)

    async def lines(self, client: str, fields: Mapping[str, Any]) -> tuple[str, Answer]:
        """Return a page of a run's log."""
        info = await self._mine(client, fields)
        start = fields.get("from", 1)
        if not isinstance(start, int) or isinstance(start, bool) or not 1 <= start <= LARGEST_EXACT:
            raise UsageError("from: a position is 1, 2, 3 …")
        found: list[JsonValue] = []
        size = 0
        async for line in self.hub.store.log.lines(info.run, start):
            size += len(line)
            if found and size > PAGE_BYTES:
                break
            found.append(orjson.loads(line))
        return "lines", {"run": info.run, "from": start, "lines": found, "length": info.length}

    async def list_runs(self, client: str, _: Mapping[str, Any]) -> tuple[str, Answer]:
        """Return the client's runs that this hub carries on, or can read."""
        found: list[Answer] = []
        for info in await self.hub.store.log.runs():
            if len(found) == MOST_LISTED:
                break
            if _same_user(await self._submitter(info), client):
                here = info.run in self.hub.runs
                found.append({"run": info.run, "length": info.length, "here": here, "created": info.created})
        return "runs", {"runs": found}

    async def _tell(self, client: str, fields: Mapping[str, Any], event: Event) -> tuple[str, Answer]:
        run = fields.get("run")
        running = self.hub.runs.get(run) if isinstance(run, str) else None
        if running is None:
            return await self._not_running(client, fields, event)
        if not _same_user(running.client, client):
            raise UsageError(f"{run} is somebody else's run")
        running.orchestrator.tell(event)
        return "done", {"run": str(run)}

    async def _not_running(self, client: str, fields: Mapping[str, Any], event: Event) -> tuple[str, Answer]:
        """End a run that nobody carries on, where that is asked; say nothing where another hub has it.

        Raises `UsageError` for anything else, with how it stands.
        """
        asked = "hub" in fields
        try:
            info = await self._mine(client, fields)
        except UsageError:
            if asked:
                raise
            return "", {}
        self._check_sound(info)
        if info.owner is not None:
            if asked:
                raise UsageError(f"{info.run} is not running at this hub")
            return "", {}
        status = (await fold(self.hub.store.log, info.run)).status
        if isinstance(event, CancelAsked) and status in {"running", "paused"}:
            return await self._end(info, event)
        how = {"paused": "it is paused", "accepted": "it has ended, accepted", "failed": "it has ended, not accepted"}
        raise UsageError(f"{info.run} is not running: {how.get(status, 'its process ended before the run did')}")

    async def _end(self, info: RunInfo, event: CancelAsked) -> tuple[str, Answer]:
        try:
            await self.hub.go_on(info, [event])
        except Conflict:
            return "", {}  # another hub was quicker, and answers
        if (running := self.hub.runs.get(info.run)) is not None:
            await running.begun.wait()  # who is told that it is done may look at once
        return "done", {"run": info.run}

    def _check_sound(self, info: RunInfo) -> None:
        """Raise `UsageError` for a run that cannot be carried on here."""
        if info.run in self.hub.broken and info.owner in {None, self.hub.owner}:
            raise UsageError(
                f"{info.run} cannot be carried on: hub {self.hub.name} met an error, which its own log tells"
            )

    async def _known(self, run: str) -> RunInfo | None:
        try:
            return await self.hub.store.log.info(run)
        except NotFound:
            return None

    async def _submitter(self, info: RunInfo) -> str:
        """Return who submitted a run, "" for nobody, and where that cannot be read."""
        key = info.run, info.created  # a removed run's name is free for others
        if key in self._submitters:
            return self._submitters[key]
        try:
            submitter = await self.hub.client_of(info.run)
        except (LogError, NotFound):
            return ""
        if info.length:
            keep(self._submitters, key, submitter, REMEMBERED)
        return submitter

    async def _mine(self, client: str, fields: Mapping[str, Any]) -> RunInfo:
        """Return the run that a call names. Raises `UsageError` where it is not there, or not this user's."""
        run = fields.get("run")
        info = await self._known(run) if isinstance(run, str) else None
        if info is None or not _same_user(await self._submitter(info), client):
            raise UsageError(f"there is no run {str(run)[:80]!r} that {client.partition('/')[0]} has submitted here")
        return info


def _refusal(why: str) -> Answer:
    return {"errors": [dict(Fault("value", why).as_dict())]}


def _same_user(one: str, other: str) -> bool:
    return bool(one) and one.partition("/")[0] == other.partition("/")[0]


CALLS: Mapping[str, Callable[[Desk, str, Mapping[str, Any]], Awaitable[tuple[str, Answer]]]] = {
    "submit": Desk.submit,
    "pause": Desk.pause,
    "cancel": Desk.cancel,
    "resume": Desk.resume,
    "lines": Desk.lines,
    "list": Desk.list_runs,
}
"""What clients may ask, by the kind of their note."""
