"""Hubs, attached agents and clients, over a real broker."""

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bus import topics
from bus.cards import AgentCard, HubCard, RoleCard, card
from bus.envelope import Envelope, Stamp
from bus.errors import NotAllowed, NotFound
from bus.event_logs.sqlite import SqliteEventLog
from bus.events import (
    AgentJoined,
    AssignmentEnded,
    Fact,
    GoalAccepted,
    GoalFailed,
    JournalCut,
    ModelAsked,
    PlanProposed,
    ResultSubmitted,
    RunPaused,
    SubtaskAssigned,
    WorkFailed,
)
from bus.pubsub import Bus, Inbox, Note
from bus.store import Store, open_store
from bus.transports.mqtt import MqttTransport
from swarm import launch
from swarm import runtime as runtime_module
from swarm.attached.attaching import attach, bring, version_of
from swarm.attached.worker_caps import worker_caps
from swarm.commands.failures import MISSING, failure_of
from swarm.commands.following import sender
from swarm.core.apply import apply
from swarm.core.plan import NOT_WORKERS
from swarm.core.state import RunState
from swarm.errors import ScenarioError, UsageError
from swarm.files.shelf import Shelf
from swarm.hubs.hub_config import HubConfig
from swarm.hubs.serving import serve
from swarm.orchestration import link as link_module
from swarm.preparation.parts import role_class
from swarm.preparation.preparing import elsewhere, prepare
from swarm.replay import replay
from swarm.runs.clock import utc_now
from swarm.runtime import new_id
from swarm.scenario.draft import Surroundings
from swarm.scenario.model import Scenario
from swarm.settings import Settings
from swarm.submissions.client import Client, client_on, state_of
from swarm.submissions.packing import SUBMITTING, pack
from tests.support.broker import broker
from tests.support.endpoint import Body, ChatEndpoint, Reply
from tests.support.runs import layers, player, role_of, task

pytestmark = pytest.mark.services


@asynccontextmanager
async def running(coroutine: Any) -> AsyncIterator[asyncio.Task[Any]]:
    task = asyncio.create_task(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def settings_of(home: Path, endpoint: ChatEndpoint) -> Settings:
    home.mkdir(parents=True, exist_ok=True)
    return Settings(home=home, model="openai:test-model", openai_key="key-of-the-tests", openai_url=endpoint.url)


def hub(url: str, home: Path, endpoint: ChatEndpoint, **more: Any) -> Any:
    settings = settings_of(home, endpoint)
    return serve(url, settings, place=home, config=HubConfig(), announce=print, **more)


def agent(
    url: str,
    home: Path,
    endpoint: ChatEndpoint,
    *roles: str,
    slots: int = 4,
    stopping: asyncio.Event | None = None,
    name: str | None = None,
) -> Any:
    brought = [bring(one, home) for one in roles]
    caps = {one.name: worker_caps(one.role.tools, folder=home) for one in brought}
    settings = settings_of(home, endpoint)
    return attach(
        url,
        brought,
        caps,
        settings,
        stopping or asyncio.Event(),
        slots=slots,
        model="openai:test-model",
        name=name,
        announce=print,
    )


async def submitted(client: Client, home: Path, **written: Any) -> str:
    scenario = Scenario.from_dict(
        {"name": "storm", "goal": "Make all the files.", **written}, folder=home, around=SUBMITTING
    )
    run = launch.new_run_id(scenario.name)
    submission, _ = pack(scenario, run=run, client=client.name, home=home)

    async def no_files(*_: str) -> None:
        raise AssertionError

    await client.submit(submission, no_files)
    return run


async def test_a_submitted_run_is_done_by_attached_agents(tmp_path: Path) -> None:
    async with (
        ChatEndpoint(player(layers(2, 3))) as endpoint,
        broker() as there,
        running(hub(there.url, tmp_path / "hub", endpoint)),
        running(agent(there.url, tmp_path / "agent", endpoint, "coder", "researcher")),
        client_on(there.url, announce=print) as client,
    ):
        run = await submitted(client, tmp_path)
        state = RunState(run)
        async with asyncio.timeout(40):
            async for envelope in client.follow(run):
                apply(state, envelope)
        assert state.status == "accepted", state.ended
        assert (await state_of(client, run)).position == state.position


async def test_a_run_for_which_each_agent_chose_its_model_replays(tmp_path: Path) -> None:
    async with ChatEndpoint(player(layers(1, 1))) as endpoint, broker() as there:
        names_none = replace(settings_of(tmp_path / "hub", endpoint), model=None)
        at_work = serve(there.url, names_none, place=tmp_path / "hub", config=HubConfig(), announce=print)
        async with (
            running(at_work),
            running(agent(there.url, tmp_path / "agent", endpoint, "coder")),
            client_on(there.url, announce=print) as client,
        ):
            run = await submitted(client, tmp_path)
            log = await ended(client, run)
    assert {one.event.model for one in log if isinstance(one.event, ModelAsked)} == {"openai:test-model"}
    async with open_store(tmp_path / "hub", read_only=True) as store:
        found = await replay(run, store.log.read(run), store.files, tmp_path / "again")
    assert found.difference is None, found.difference.lines()


async def test_a_run_of_this_process_uses_agents_on_the_bus_and_brings_the_rest(tmp_path: Path) -> None:
    async with (
        ChatEndpoint(player(layers(1, 3))) as endpoint,
        broker() as there,
        running(agent(there.url, tmp_path / "agent", endpoint, "coder")),
        MqttTransport(there.url, source="/tests") as transport,
        Bus(transport).subscribe(topics.agent_cards(), kinds=Note) as cards,
    ):
        await asyncio.sleep(0.5)
        scenario = Scenario.from_dict({"name": "here", "goal": "Make all the files."}, folder=tmp_path)
        settings = settings_of(tmp_path / "home", endpoint)
        ready = await prepare(scenario, settings)
        seen: list[Envelope] = []
        async with asyncio.timeout(40):
            outcome = await launch.start(ready, settings, out=tmp_path / "out", bus=there.url, on_event=seen.append)
        said = set()
        with suppress(TimeoutError):
            while True:
                said.add(topics.parse((await asyncio.wait_for(cards.get(), 1.0)).topic).agent.partition("-")[0])
    assert outcome.outcome == "accepted"
    assert said == {"anonymous/coder"}, "who is there for this run alone is offered to nobody else"
    assert (tmp_path / "out" / "t0-0.txt").read_text() == "made by t0-0\n"
    worked = {one.source.rpartition("/")[2].partition("-")[0] for one in seen if isinstance(one.event, ResultSubmitted)}
    assert worked == {"coder"}, "by the attached agent"
    planned = next(one.source for one in seen if isinstance(one.event, PlanProposed))
    assert "/run-" in planned, "by this process"


async def test_a_role_of_the_scenarios_own_code_is_left_to_nobody_on_the_bus(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_ROLES)
    written = {
        "name": "here",
        "goal": "Make all the files.",
        "roles": {"planner": {"uses": "./mine.py:ForEach", "with": {"files": ["a"]}}},
        "accept": [{"file": "a.txt"}],
    }
    async with ChatEndpoint(player(layers(1, 3))) as endpoint, broker() as there:
        settings = settings_of(tmp_path / "home", endpoint)
        ready = await prepare(Scenario.from_dict(written, folder=tmp_path), settings)
        async with running(hub(there.url, tmp_path / "hub", endpoint)), asyncio.timeout(40):
            await asyncio.sleep(1)
            outcome = await launch.start(ready, settings, out=tmp_path / "out", bus=there.url)
    assert outcome.outcome == "accepted"
    assert [one.id for one in outcome.subtasks] == ["a"], "planned by the scenario's own class"


async def test_a_run_of_this_process_waits_for_a_role_that_only_agents_on_the_bus_bring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "CARDS_S", 0.2)
    (tmp_path / "tester.py").write_text(TESTER, encoding="utf-8")
    plan = [{"id": "try", "role": "tester", "do": "Try it."}]
    written = {"name": "here", "goal": "Try it.", "plan": plan, "roles": {"tester": {"agents": 1}}}
    with pytest.raises(ScenarioError, match="role 'tester' is unknown"):
        Scenario.from_dict(written, folder=tmp_path)
    scenario = Scenario.from_dict(written, folder=tmp_path, around=Surroundings(waits=True))
    told: list[str] = []
    async with ChatEndpoint(player()) as endpoint, broker() as there:
        settings = settings_of(tmp_path / "home", endpoint)
        ready = await prepare(scenario, settings, elsewhere=elsewhere(scenario))
        starting = launch.start(ready, settings, out=tmp_path / "out", bus=there.url, announce=told.append)
        async with running(starting) as run:
            await asyncio.sleep(1)
            assert "nobody offers the role 'tester' yet: the run waits for it" in told
            async with running(agent(there.url, tmp_path, endpoint, "./tester.py:Tester")), asyncio.timeout(40):
                outcome = await run
    assert outcome.outcome == "accepted", outcome.reason


async def test_a_run_of_this_process_brings_its_own_agent_where_those_on_the_bus_decline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_module, "LACKING_S", 0.2)
    async with (
        ChatEndpoint(player(layers(1, 1))) as endpoint,
        broker() as there,
        MqttTransport(there.url, source="/tests") as transport,
    ):
        bus, name = Bus(transport), "anonymous/picky"

        async def picky() -> None:
            async with bus.subscribe(topics.agent_requests(name)) as requests:
                own = AgentCard(roles=(RoleCard(name="coder"),), slots=1, nonce="n")
                await bus.publish_note(topics.agent_card(name), card(own), retain=True)
                async for request in requests:
                    request.acknowledge()
                    declined = Note("declined", {"lease": request.envelope.id, "why": "not that model"})
                    await bus.publish_note(request.attachments["reply_to"], declined)

        scenario = Scenario.from_dict({"name": "here", "goal": "Make all the files."}, folder=tmp_path)
        settings = settings_of(tmp_path / "home", endpoint)
        ready = await prepare(scenario, settings)
        seen: list[Envelope] = []
        async with running(picky()), asyncio.timeout(40):
            outcome = await launch.start(ready, settings, out=tmp_path / "out", bus=there.url, on_event=seen.append)
    assert outcome.outcome == "accepted", outcome.reason
    assert [one.event.why for one in seen if isinstance(one.event, AssignmentEnded)] == [
        f"{name} declined: not that model"
    ]


async def test_a_run_of_this_process_without_the_rights_of_a_hub_ends_at_once_and_says_so(tmp_path: Path) -> None:
    rights = "user client\ntopic read swarm/v1/#\ntopic write swarm/v1/submit/client/+\n"
    scenario = Scenario.from_dict({"name": "here", "goal": "Make all the files."}, folder=tmp_path)
    async with ChatEndpoint(player()) as endpoint, broker(users={"client": "x"}, acl=rights) as there:
        settings = settings_of(tmp_path / "home", endpoint)
        ready = await prepare(scenario, settings)
        with pytest.raises(NotAllowed, match="speaks to agents as a hub does") as refused:
            async with asyncio.timeout(10):
                await launch.start(ready, settings, bus=there.address("client").replace("client@", "client:x@"))
    assert failure_of(refused.value).status == MISSING


async def test_an_agent_brings_again_what_the_hub_lacks_of_what_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It brought a file to one hub, and named it to the next, to which the run had moved in between."""
    forgotten = []
    brought = Shelf.brought

    def forgets_once(self: Shelf, who: str, under: str) -> frozenset[str]:
        if not forgotten and brought(self, who, under):
            forgotten.append(under)
            self.ended(who, under)
        return brought(self, who, under)

    monkeypatch.setattr(Shelf, "brought", forgets_once)
    async with (
        ChatEndpoint(player(layers(1, 2))) as endpoint,
        broker() as there,
        running(hub(there.url, tmp_path / "hub", endpoint)),
        running(agent(there.url, tmp_path / "agent", endpoint, "coder")),
        client_on(there.url, announce=print) as client,
    ):
        log = await ended(client, await submitted(client, tmp_path))
    assert forgotten
    assert isinstance(log[-1].event, GoalAccepted)


async def test_a_run_of_this_process_outlives_a_broker_that_forgets_its_own_agents(tmp_path: Path) -> None:
    """Its critic is one of them; by the time it is wanted, whose card is not said again counts as gone."""
    held = asyncio.Event()
    goes_on = asyncio.Event()

    async def play(body: Body) -> Reply:
        if role_of(body) == "coder":
            held.set()
            await goes_on.wait()
        return player(layers(1, 1))(body)

    async with ChatEndpoint(play) as endpoint, broker() as there:
        scenario = Scenario.from_dict({"name": "here", "goal": "Make all the files."}, folder=tmp_path)
        settings = settings_of(tmp_path / "home", endpoint)
        ready = await prepare(scenario, settings)
        begun = launch.start(ready, settings, out=tmp_path / "out", bus=there.url, announce=print)
        async with running(begun) as run, asyncio.timeout(60):
            await held.wait()
            await there.restart()
            await asyncio.sleep(9)
            goes_on.set()
            outcome = await asyncio.shield(run)
    assert outcome.outcome == "accepted"


async def ended(client: Client, run: str, within_s: float = 40) -> list[Envelope]:
    """Follow a run to its end and return its log."""
    async with asyncio.timeout(within_s):
        return [envelope async for envelope in client.follow(run)]


async def test_an_agent_that_comes_while_a_run_waits_for_it_is_given_the_work(tmp_path: Path) -> None:
    async with (
        ChatEndpoint(player(layers(1, 2))) as endpoint,
        broker() as there,
        running(hub(there.url, tmp_path / "hub", endpoint)),
        client_on(there.url, announce=print) as client,
    ):
        run = await submitted(client, tmp_path)
        async with asyncio.timeout(20):
            async for envelope in client.follow(run):
                if isinstance(envelope.event, PlanProposed):
                    break
        async with running(agent(there.url, tmp_path / "agent", endpoint, "coder")):
            log = await ended(client, run)
    assert isinstance(log[-1].event, GoalAccepted)
    joined = [one.event.agent for one in log if isinstance(one.event, AgentJoined)]
    assert any("coder-" in one for one in joined)


async def test_a_run_that_nobody_offers_a_role_for_fails_at_its_deadline_and_names_the_role(tmp_path: Path) -> None:
    plan = [{"id": "brief", "role": "editor", "do": "Write it."}]
    async with (
        ChatEndpoint(player()) as endpoint,
        broker() as there,
        running(hub(there.url, tmp_path / "hub", endpoint)),
        client_on(there.url, announce=print) as client,
    ):
        run = await submitted(client, tmp_path, plan=plan, roles={"editor": {"deadline": "2s"}})
        log = await ended(client, run)
    end = log[-1].event
    assert isinstance(end, GoalFailed)
    assert (end.kind, "'editor'" in end.reason) == ("no_agent", True)


async def test_an_agent_that_is_to_leave_finishes_what_it_holds_and_takes_nothing_more(tmp_path: Path) -> None:
    started = asyncio.Event()

    async def slowly(body: Body) -> Reply:
        if role_of(body) == "coder":
            started.set()
            await asyncio.sleep(0.6)
        return player(layers(2, 4))(body)

    leaving = asyncio.Event()
    async with (
        ChatEndpoint(slowly) as endpoint,
        broker() as there,
        running(hub(there.url, tmp_path / "hub", endpoint)),
        client_on(there.url, announce=print) as client,
        running(agent(there.url, tmp_path / "old", endpoint, "coder", slots=2, stopping=leaving, name="old")) as old,
    ):
        run = await submitted(client, tmp_path)
        await started.wait()
        leaving.set()
        await asyncio.wait_for(asyncio.shield(old), 15)
        async with running(agent(there.url, tmp_path / "new", endpoint, "coder", name="new")):
            log = await ended(client, run)
    assert isinstance(log[-1].event, GoalAccepted)
    given = [one.event.agent for one in log if isinstance(one.event, SubtaskAssigned)]
    assert given.count("anonymous/old") == 2, "as many as it had slots for"
    assert not [one for one in log if isinstance(one.event, AssignmentEnded)], "it finished them"
    assert len([one for one in log if isinstance(one.event, ResultSubmitted)]) == 8


async def test_a_role_that_nobody_knew_is_offered_to_the_planner_of_a_run_that_goes_on(tmp_path: Path) -> None:
    (tmp_path / "tester.py").write_text(TESTER, encoding="utf-8")
    waits, goes_on = asyncio.Event(), asyncio.Event()

    async def play(body: Body) -> Reply:
        if role_of(body) == "planner" and "tester" in str(body["messages"]):
            return json.dumps({"subtasks": [task("t0-0") | {"creates": ["t0-0.txt"]}, task("try", role="tester")]})
        if role_of(body) == "critic" and not goes_on.is_set():
            waits.set()
            await goes_on.wait()
            return json.dumps({"reasons": "nobody has tried it", "accepted": False})
        return player(layers(1, 1))(body)

    async with (
        ChatEndpoint(play) as endpoint,
        broker() as there,
        running(hub(there.url, tmp_path / "hub", endpoint)),
        client_on(there.url, announce=print) as client,
        running(agent(there.url, tmp_path / "agent", endpoint, "coder")),
    ):
        run = await submitted(client, tmp_path)
        await asyncio.wait_for(waits.wait(), 20)
        async with running(agent(there.url, tmp_path, endpoint, "./tester.py:Tester")):
            await asyncio.sleep(1)
            goes_on.set()
            log = await ended(client, run)
    assert isinstance(log[-1].event, GoalAccepted)
    assert "try" in {one.event.subtask.id for one in log if isinstance(one.event, SubtaskAssigned)}
    async with open_store(tmp_path / "hub", read_only=True) as store:
        found = await replay(run, store.log.read(run), store.files, tmp_path / "again")
    assert (found.difference, found.elsewhere) == (None, ("tester",)), "its code is with its agent"


TESTER = '''\
from swarm import Context, ResultSubmitted, Role, SubtaskAssigned


class Tester(Role[SubtaskAssigned, ResultSubmitted]):
    """Tries what others made."""

    name = "tester"
    handles = SubtaskAssigned

    async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
        return ctx.result("tried it")
'''


async def test_a_role_that_comes_while_its_run_waits_has_its_own_tools_and_planners_know_what_it_is_for(
    tmp_path: Path,
) -> None:
    (tmp_path / "editor.py").write_text(EDITOR, encoding="utf-8")
    (tmp_path / "my_tools.py").write_text(TOOLS, encoding="utf-8")
    plan = [{"id": "letter", "role": "editor", "do": "Write it."}]
    planner: list[str] = []

    def play(body: Body) -> Reply:
        if role_of(body) == "planner":
            planner.append(str(body["messages"]))
        if role_of(body) == "critic":
            return json.dumps({"reasons": "it is too short", "accepted": bool(planner)})
        return player(layers(1, 1))(body)

    async with (
        ChatEndpoint(play) as endpoint,
        broker() as there,
        running(hub(there.url, tmp_path / "hub", endpoint)),
        client_on(there.url, announce=print) as client,
        running(agent(there.url, tmp_path / "agent", endpoint, "coder")),
    ):
        run = await submitted(client, tmp_path, plan=plan)
        async with asyncio.timeout(20):
            async for envelope in client.follow(run):
                if isinstance(envelope.event, PlanProposed):
                    break
        async with running(agent(there.url, tmp_path, endpoint, "./editor.py:Editor")):
            log = await ended(client, run)
    assert isinstance(log[-1].event, GoalAccepted)
    assert not [one.event for one in log if isinstance(one.event, WorkFailed)]
    (result,) = [one.event for one in log if isinstance(one.event, ResultSubmitted) and one.subject == "letter"]
    assert result.text == "letter.md has 3 words."
    brings = [offer for one in log if isinstance(one.event, AgentJoined) for offer in one.event.brings]
    assert [(one.name, one.about, one.tools) for one in brings] == [
        ("editor", "Turns findings into a short text.", ("word_count", "write_file"))
    ]
    assert all("editor: Turns findings into a short text." in said for said in planner)
    async with open_store(tmp_path / "hub", read_only=True) as store:
        found = await replay(run, store.log.read(run), store.files, tmp_path / "again")
    assert (found.difference, found.elsewhere) == (None, ("editor",))


EDITOR = '''\
from swarm import Context, ResultSubmitted, Role, SubtaskAssigned


class Editor(Role[SubtaskAssigned, ResultSubmitted]):
    """Turns findings into a short text."""

    name = "editor"
    handles = SubtaskAssigned
    tools = ("write_file", "./my_tools.py:word_count")

    async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
        await ctx.call_tool("write_file", path="letter.md", content="All is well.")
        words = await ctx.call_tool("word_count", path="letter.md")
        return ctx.result(f"letter.md has {words} words.")
'''

TOOLS = '''\
from swarm import ToolContext, tool


@tool(effect="reads")
async def word_count(path: str, context: ToolContext) -> int:
    """Count the words of a text file of the project."""
    return len(context.folder.read(path).decode().split())
'''


async def test_agents_of_an_old_and_a_new_version_of_a_role_work_on_one_run(tmp_path: Path) -> None:
    """An attempt that the old one began goes on with the new one, as far as it asks the same."""
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    (tmp_path / "old" / "walker.py").write_text(WALKER.format(last="Then where?"), encoding="utf-8")
    (tmp_path / "new" / "walker.py").write_text(WALKER.format(last="And then?"), encoding="utf-8")
    held, asked = asyncio.Event(), []

    async def play(body: Body) -> Reply:
        if role_of(body) == "critic":
            return json.dumps({"reasons": "it is there", "accepted": True})
        said = str(body["messages"][-1]["content"])
        asked.append(said)
        if said == "Then where?":
            held.set()
            await asyncio.sleep(60)
        return "left"

    plan = [{"id": "walk", "role": "walker", "do": "Walk."}]
    async with (
        ChatEndpoint(play) as endpoint,
        broker() as there,
        running(hub(there.url, tmp_path / "hub", endpoint)),
        client_on(there.url, announce=print) as client,
    ):
        async with running(agent(there.url, tmp_path / "old", endpoint, "./walker.py:Walker")):
            run = await submitted(client, tmp_path, plan=plan)
            await asyncio.wait_for(held.wait(), 20)
        async with running(agent(there.url, tmp_path / "new", endpoint, "./walker.py:Walker")):
            log = await ended(client, run)
    assert isinstance(log[-1].event, GoalAccepted)
    assert [one.event.text for one in log if isinstance(one.event, ResultSubmitted)] == ["left, left"]
    assert Counter(asked) == {"Where first?": 1, "Then where?": 1, "And then?": 1}
    assert len([one for one in log if isinstance(one.event, JournalCut)]) == 1


WALKER = '''\
from swarm import Context, ResultSubmitted, Role, SubtaskAssigned


class Walker(Role[SubtaskAssigned, ResultSubmitted]):
    """Asks for the way."""

    name = "walker"
    handles = SubtaskAssigned

    async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
        first = await ctx.converse("You answer.", "Where first?")
        then = await ctx.converse("You answer.", "{last}")
        return ctx.result(first.text + ", " + then.text)
'''


async def test_a_client_pauses_resumes_and_cancels_its_own_run_and_nobody_elses(tmp_path: Path) -> None:
    held = asyncio.Event()

    async def play(body: Body) -> Reply:
        if role_of(body) == "coder":
            held.set()
            await asyncio.sleep(30)
        return player(layers(1, 1))(body)

    async with (
        ChatEndpoint(play) as endpoint,
        broker() as there,
        running(hub(there.url, tmp_path / "hub", endpoint)),
        running(agent(there.url, tmp_path / "agent", endpoint, "coder")),
        client_on(there.url, announce=print) as client,
        client_on(there.url.replace("//", "//mallory@"), announce=print) as other,
    ):
        run = await submitted(client, tmp_path)
        await asyncio.wait_for(held.wait(), 20)
        for kind in ("pause", "cancel"):
            with pytest.raises(UsageError, match="somebody else's"):
                await other.call(kind, run=run)
        with pytest.raises(UsageError, match="there is no run"):
            await other.call("lines", hub=other.any_hub(), run=run)
        await client.call("pause", run=run)
        assert isinstance((await ended(client, run))[-1].event, RunPaused)
        await client.call("resume", hub=client.any_hub(), run=run, limits={"tokens": 300_000})
        await client.call("cancel", run=run)
        end = (await ended(client, run))[-1].event
    assert isinstance(end, GoalFailed)
    assert end.kind == "cancelled"


async def test_an_agent_that_lies_harms_nobody_but_itself(tmp_path: Path) -> None:
    """It answers under leases of others, in no schema, too large, and says 10,000 things that mean nothing."""
    async with (
        ChatEndpoint(player(layers(2, 3))) as endpoint,
        broker() as there,
        running(hub(there.url, tmp_path / "hub", endpoint)),
        running(agent(there.url, tmp_path / "agent", endpoint, "coder", name="honest")),
        client_on(there.url, announce=print) as client,
        MqttTransport(there.url.replace("//", "//mallory@"), source="/swarm/agent/mallory/1") as transport,
        Bus(transport).subscribe(topics.agent_control("mallory/1"), capacity=20_000) as told,
    ):
        liar = Bus(transport)
        run = await submitted(client, tmp_path)
        to_hub = topics.hub_reply(client.any_hub(), "mallory/1", run)
        seen: list[Envelope] = []
        objections: list[str] = []
        listening = asyncio.create_task(listen(told, objections))
        lies = asyncio.create_task(lie(liar, transport, to_hub, run, seen))
        async with asyncio.timeout(60):
            async for envelope in client.follow(run):
                seen.append(envelope)  # noqa: PERF401 - it is looked into meanwhile
        await lies
        async with asyncio.timeout(20):
            while not any("not JSON" in one for one in objections):
                await asyncio.sleep(0.05)
        listening.cancel()
    assert len(objections) < 60, "whoever writes a role is told what is wrong with its messages, but sparingly"
    assert isinstance(seen[-1].event, GoalAccepted)
    assert not [one for one in seen if "mallory" in one.source]
    results = [one for one in seen if isinstance(one.event, ResultSubmitted)]
    assert len(results) == 6
    assert not [one for one in results if one.event.text == "lies"]


async def listen(told: Inbox[Any], objections: list[str]) -> None:
    async for received in told:
        received.acknowledge()
        if received.content.kind == "dropped":
            objections.append(received.content.fields["why"])


async def lie(bus: Bus, transport: MqttTransport, to_hub: str, run: str, seen: list[Envelope]) -> None:
    stamp = Stamp("/swarm/agent/mallory/1", new_id, utc_now)
    for _ in range(200):
        for request in [one for one in seen if isinstance(one.event, SubtaskAssigned)]:
            forged = stamp(
                run, ResultSubmitted(text="lies"), subject=request.subject, causation_id=request.id, sequence=1
            )
            await bus.publish(to_hub, forged)
            await bus.publish_note(to_hub, Note("declined", {"lease": request.id, "why": "I lie"}))
            await bus.publish_note(to_hub, Note("progress", {"lease": ["not", "a", "lease"]}))
        await asyncio.sleep(0.005)
    link = transport._link
    assert link is not None
    for payload in (b"no json", b"{}", b'{"type":"swarm.ResultSubmitted.v1"}', b"[" * 10_000, b"\xff" * 900_000):
        await link.publish(to_hub, payload, qos=1, retain=False, properties=None)
    flood = [bus.publish_note(to_hub, Note("progress", {"lease": f"none-{number}"})) for number in range(10_000)]
    for start in range(0, len(flood), 500):
        await asyncio.gather(*flood[start : start + 500])


async def test_files_go_to_the_hub_and_come_back_and_a_hash_alone_gives_nobody_a_file(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.md").write_bytes(secret := b"what only ann knows\n" * 20_000)
    written = {"name": "storm", "goal": "Make all the files.", "workspace": "in"}
    async with (
        ChatEndpoint(player(layers(1, 1))) as endpoint,
        broker() as there,
        running(hub(there.url, tmp_path / "hub", endpoint)),
        running(agent(there.url, tmp_path / "agent", endpoint, "coder")),
        client_on(there.url, announce=print) as ann,
        client_on(there.url, announce=print) as eve,
    ):
        scenario = Scenario.from_dict(written, folder=tmp_path, around=SUBMITTING)
        submission, places = pack(scenario, run=(run := launch.new_run_id("storm")), client=ann.name, home=tmp_path)
        at, _ = await ann.submit(submission, sender(ann, places))
        end = (await ended(ann, run))[-1].event
        assert isinstance(end, GoalAccepted)
        made = {ref.path: await ann.files(at, run).get(ref.sha256) for ref in end.files}
        assert made["t0-0.txt"] == b"made by t0-0\n"

        stolen = submission.model_copy(update={"client": eve.name, "run": "eves-run"})
        asked: list[str] = []

        async def has_only_the_hash(_hub: str, _run: str, sha256: str) -> None:
            asked.append(sha256)
            raise EOFError

        with pytest.raises(EOFError):
            await eve.submit(stolen, has_only_the_hash)
        assert asked == [hashlib.sha256(secret).hexdigest()]
        with pytest.raises(NotFound, match="no run of yours names it"):
            await eve.files(at, "eves-run").get(asked[0])


async def test_a_submission_too_large_for_one_message_arrives(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(1_200):
        (tmp_path / "in" / f"a-file-of-some-length-in-its-name-{number}.txt").write_text(f"{number % 3}")
    written = {"name": "storm", "goal": "Make all the files.", "workspace": "in"}
    async with (
        ChatEndpoint(player(layers(1, 1))) as endpoint,
        broker() as there,
        running(hub(there.url, tmp_path / "hub", endpoint)),
        running(agent(there.url, tmp_path / "agent", endpoint, "coder")),
        client_on(there.url, announce=print) as client,
    ):
        scenario = Scenario.from_dict(written, folder=tmp_path, around=SUBMITTING)
        submission, places = pack(scenario, run=launch.new_run_id("storm"), client=client.name, home=tmp_path)
        await client.submit(submission, sender(client, places))
        log = await ended(client, submission.run, 90)
        assert isinstance(log[-1].event, GoalAccepted)


async def test_a_bus_has_one_hub_of_a_name_and_a_card_that_outlived_its_hub_is_in_nobodys_way(tmp_path: Path) -> None:
    async with (
        ChatEndpoint() as endpoint,
        broker() as there,
        MqttTransport(there.url, source="/tests") as transport,
        Bus(transport).subscribe(topics.hub_cards(), kinds=Note) as cards,
    ):
        await Bus(transport).publish_note(topics.hub_card("north"), card(HubCard(nonce="of before")), retain=True)
        async with running(hub(there.url, tmp_path / "one", endpoint, name="north")):
            said = [(await asyncio.wait_for(cards.get(), 15)).content for _ in range(3)]
            assert [one.kind for one in said] == ["card", "", "card"]
            with pytest.raises(UsageError, match="a hub north is at work on this bus already"):
                await asyncio.wait_for(hub(there.url, tmp_path / "other", endpoint, name="north"), 15)
            async with client_on(there.url, announce=print) as client:
                assert list(client.hubs) == ["north"], "its card is not gone with the other's"


async def test_a_hub_whose_store_takes_nothing_more_ends_and_says_that_it_may_be_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores: list[SqliteEventLog] = []

    @asynccontextmanager
    async def opened(place: Path) -> AsyncIterator[Store]:
        async with SqliteEventLog(place) as log:
            stores.append(log)
            yield Store(log, log.files)

    monkeypatch.setattr("swarm.hubs.serving.open_store", opened)
    async with ChatEndpoint(player(layers(1, 1))) as endpoint, broker() as there:
        serving = asyncio.create_task(hub(there.url, tmp_path / "hub", endpoint))
        async with client_on(there.url, announce=print) as client:
            await submitted(client, tmp_path)
            assert stores[0]._database._writer is not None
            stores[0]._database._writer.execute("PRAGMA max_page_count = 1")  # the disk is full
            with suppress(UsageError, TimeoutError):
                async with asyncio.timeout(1):
                    await submitted(client, tmp_path)
            await asyncio.wait([serving], timeout=15)
            assert serving.done(), "nobody would start it again"
    error = serving.exception()
    assert error is not None
    failure = failure_of(error)
    assert failure.status == MISSING
    assert "disk is full" in failure.text
    assert "Start it again" in failure.text


async def test_a_hub_without_a_model_still_judges_by_checks_and_says_what_it_lacks_where_one_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def none_found(_: Settings) -> str:
        return ""

    monkeypatch.setattr("swarm.hubs.own_agents.default_model", none_found)
    plan = [task("a") | {"accept": [{"file": "a.txt"}]}]
    written = [{key: value for key, value in one.items() if key != "creates"} for one in plan]
    async with (
        ChatEndpoint(player()) as endpoint,
        broker() as there,
        running(
            serve(
                there.url,
                Settings(home=tmp_path / "hub"),
                place=tmp_path / "hub",
                config=HubConfig(),
                announce=print,
            )
        ),
        running(agent(there.url, tmp_path / "agent", endpoint, "coder")),
        client_on(there.url, announce=print) as client,
    ):
        run = await submitted(client, tmp_path, plan=written, accept=[{"file": "a.txt"}])
        assert isinstance((await ended(client, run))[-1].event, GoalAccepted)
        run = await submitted(client, tmp_path)
        end = (await ended(client, run))[-1].event
    assert isinstance(end, RunPaused)
    assert "no model is named" in end.reason


OWN_ROLES = """
from swarm import PlanProposed, PlanRequested, ReviewGiven, ReviewRequested, Role, Subtask

class ForEach(Role[PlanRequested, PlanProposed]):
    name = "planner"
    handles = PlanRequested

    def __init__(self, files=()):
        self.files = files

    async def handle(self, request, ctx):
        tasks = [Subtask(id=one, role="coder", instruction=f"TASK {one}: write {one}.txt") for one in self.files]
        return PlanProposed(subtasks=tuple(tasks))

class Measuring(Role[ReviewRequested, ReviewGiven]):
    name = "critic"
    handles = ReviewRequested
    tools = ("./my_tools.py:size",)

    async def handle(self, request, ctx):
        sizes = [await ctx.call_tool("size", path=path) for path in ctx.files]
        return ReviewGiven(accepted=True, feedback=f"sizes: {', '.join(sizes)}")
"""
OWN_TOOLS = """
from swarm import ToolContext, tool

@tool(effect="reads")
async def size(path: str, context: ToolContext) -> int:
    \"\"\"Return the bytes of a file.\"\"\"
    return context.folder.size(path)
"""


async def ended_with(config: HubConfig, folder: Path) -> tuple[str, Fact]:
    """Return a run of a hub with this configuration, and the event that it ended with."""
    async with ChatEndpoint(player()) as endpoint, broker() as there:
        settings = settings_of(folder / "hub", endpoint)
        async with (
            running(serve(there.url, settings, place=folder / "hub", config=config, announce=print)),
            running(agent(there.url, folder / "agent", endpoint, "coder")),
            client_on(there.url, announce=print) as client,
        ):
            run = await submitted(client, folder, accept=[{"file": "a.txt"}])
            return run, (await ended(client, run))[-1].event


async def test_a_hubs_own_planner_and_critic_are_what_its_configuration_says(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN_ROLES)
    (tmp_path / "my_tools.py").write_text(OWN_TOOLS)
    (tmp_path / "hub.yaml").write_text(
        'roles:\n  planner: {uses: "./mine.py:ForEach", with: {files: [a, b]}}\n'
        '  critic: {uses: "./mine.py:Measuring", tools: [size]}\n'
        'tools: {size: "./my_tools.py:size"}\n'
    )
    config = HubConfig.load(tmp_path / "hub.yaml")
    run, end = await ended_with(config, tmp_path)
    assert isinstance(end, GoalAccepted)
    assert end.reason == "sizes: 10, 10"
    async with open_store(tmp_path / "hub", read_only=True) as store:
        found = await replay(run, store.log.read(run), store.files, tmp_path / "again", tools=config.tools)
    assert found.difference is None, found.difference.lines()


async def test_a_hubs_own_planner_speaks_with_a_model_that_is_a_file(tmp_path: Path) -> None:
    plan = {"subtasks": [{"id": "a", "role": "coder", "do": "TASK a: write a.txt"}]}
    (tmp_path / "answers.yaml").write_text(json.dumps([{"role": "planner", "json": plan}]))
    (tmp_path / "hub.yaml").write_text("roles:\n  planner: {model: 'scripted:answers.yaml'}\n")
    _, end = await ended_with(HubConfig.load(tmp_path / "hub.yaml"), tmp_path)
    assert isinstance(end, GoalAccepted)


async def test_a_hubs_own_agents_say_which_version_of_a_role_they_have(tmp_path: Path) -> None:
    """Else one that goes on with what a hub of another version has begun could not part from it, and would stop."""
    async with (
        ChatEndpoint(player()) as endpoint,
        broker() as there,
        running(hub(there.url, tmp_path / "hub", endpoint)),
        client_on(there.url, announce=print) as client,
    ):
        run = await submitted(client, tmp_path)
        async with asyncio.timeout(20):
            async for envelope in client.follow(run):
                if isinstance(envelope.event, AgentJoined):
                    break
    assert isinstance(envelope.event, AgentJoined)
    assert envelope.event.versions == {name: version_of(role_class(name, None, tmp_path)) for name in NOT_WORKERS}
