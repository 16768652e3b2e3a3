"""What goes over a broker is what docs/wire.md and its schema say."""

import asyncio
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import given

from agents.briefing import Briefing
from bus import codec, topics, wire
from bus.cards import AgentCard, HubCard, RoleCard, card
from bus.envelope import Envelope, Stamp
from bus.errors import BadEnvelope
from bus.events import (
    EVENTS,
    FROM_AGENTS,
    AgentJoined,
    CancelAsked,
    Event,
    GoalAccepted,
    RunMoved,
    RunPaused,
    WorkFailed,
)
from bus.notes import ON, kind_of
from bus.pubsub import Bus
from bus.transport import Message
from bus.transports.mqtt import MqttTransport
from bus.transports.simulated import SimulatedTransport
from swarm.errors import UsageError
from swarm.runs.clock import utc_now
from swarm.runtime import new_id
from swarm.simulation.simulate import simulate
from swarm.submissions.client import client_on
from tests.support.broker import broker
from tests.support.endpoint import Body, ChatEndpoint, Reply
from tests.support.events import envelopes
from tests.support.hubs import agent, hub, log_of, submitted
from tests.support.mqtt_client import PlainClient
from tests.support.runs import layers, player
from tests.support.wire_page import NOTES, WAYS
from tests.support.wire_schema import Checker, message_name, schema, topic_of, type_of

WHOLE = schema()
PAGE = (Path(__file__).parents[1] / "docs/wire.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^ *```json (\w+)\n(.*?)^ *```$", PAGE, re.MULTILINE | re.DOTALL)


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": WHOLE["$defs"]})


VALIDATORS = {name: validator(f"message.{name}") for name in EVENTS}


def test_the_schema_is_one_and_what_it_refers_to_is_there() -> None:
    jsonschema.Draft202012Validator.check_schema(WHOLE)
    assert not {one for one in references(WHOLE) if one.removeprefix("#/$defs/") not in WHOLE["$defs"]}


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*map(references, value.values()))
    return set().union(*map(references, value)) if isinstance(value, list) else set()


def test_every_kind_of_topic_and_every_event_has_its_messages() -> None:
    assert set(ON) == set(get_args(topics.Kind))
    assert {topics.parse(topic_of(kind)).kind for kind in ON} == set(ON)
    assert {message_name(one) for one in EVENTS.values()} <= set(WHOLE["$defs"])
    for kind, shapes in ON.items():
        types = [type_of(one) for one in shapes]
        assert len(types) == len(set(types)), f"two messages of one type on {kind}"
        assert all(kind_of(one) for one in shapes if one not in EVENTS.values())


@pytest.mark.parametrize(("kind", "text"), SHOWN, ids=[kind for kind, _ in SHOWN])
def test_a_message_that_the_page_shows_fits_the_schema_and_is_read(kind: topics.Kind, text: str) -> None:
    Checker().check(topic_of(kind), text.encode())
    message = wire.decode(text.encode())
    if "briefing" in message.attachments:
        Briefing.read(message.attachments["briefing"])


def test_the_page_says_of_every_message_what_it_is() -> None:
    assert len(SHOWN) >= 4
    assert set(WAYS) == set(ON)
    notes = {one for shapes in ON.values() for one in shapes if one not in EVENTS.values()}
    assert notes <= {one for shapes in NOTES.values() for one in shapes} | {AgentCard, HubCard}


@given(envelopes())
def test_every_event_that_we_write_fits_its_schema(envelope: Envelope) -> None:
    VALIDATORS[type(envelope.event).__name__].validate(json.loads(codec.encode(envelope)))


@given(envelopes())
def test_attributes_that_nobody_knows_are_passed_over_and_fields_of_events_are_not(envelope: Envelope) -> None:
    line = json.loads(codec.encode(envelope))
    one = VALIDATORS[type(envelope.event).__name__]
    assert codec.decode(json.dumps(line | {"newer": 1}).encode()) == envelope
    assert one.is_valid(line | {"newer": 1})
    changed = line | {"data": line["data"] | {"newer": 1}}
    assert not one.is_valid(changed)
    with pytest.raises(BadEnvelope, match="newer"):
        codec.decode(json.dumps(changed).encode())


def test_what_goes_over_the_bus_in_simulated_runs_with_all_faults_fits_the_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checker = Checker()
    publish = SimulatedTransport.publish

    async def checked(self: SimulatedTransport, topic: str, message: Message, *, retain: bool = False) -> None:
        checker.check(topic, wire.encode(message, source="/swarm/hub/h", note_id="n"))
        await publish(self, topic, message, retain=retain)

    monkeypatch.setattr(SimulatedTransport, "publish", checked)
    for seed in range(12):
        assert not simulate(seed, place=tmp_path).broken
    seen = {kind for _, kind in checker.seen}
    wanted = {"progress", "recorded", "confirmed", "cancel", "moved", "card"}
    assert {f"swarm.note.{kind}.v1" for kind in wanted} <= seen
    said = {kind for topic, kind in checker.seen if topic == "hub_reply" and ".note." not in kind}
    assert said <= {type_of(one) for one in FROM_AGENTS}
    assert len(said) > 8


@pytest.mark.services
async def test_what_goes_over_a_real_broker_fits_the_schema(tmp_path: Path) -> None:
    """Runs of a hub, an agent and a client; so many files that requests and submissions are too large to travel."""
    for number in range(700):
        (tmp_path / "material" / f"{number}").mkdir(parents=True)
        (tmp_path / "material" / f"{number}" / "notes.txt").write_text("the same " * 40_000)
    checker = Checker()
    play = player(layers(1, 2))

    async def slowly(body: Body) -> Reply:
        await asyncio.sleep(0.5)  # so that agents have to say that they are at it
        return play(body)

    async with (
        ChatEndpoint(slowly) as model,
        broker() as there,
        client_on(there.url, announce=print) as client,
    ):
        with PlainClient(there.port) as watcher:
            watcher.subscribe("swarm/v1/#")
            async with (
                hub(there.url, tmp_path / "hub", model.url),
                agent(there.url, tmp_path / "a", model.url, "coder"),
            ):
                while not client.hubs:
                    await asyncio.sleep(0.05)
                run = await submitted(client, tmp_path, workspace="./material")
                end = (await log_of(client, run))[-1].event
                assert isinstance(end, GoalAccepted)
                await client.files(client.hub_of(run), run).get(end.files[0].sha256)
                waits = await submitted(client, tmp_path, plan=[{"id": "a", "role": "nobody", "do": "Wait."}])
                for kind in ("pause", "cancel", "lines"):
                    with suppress(UsageError):
                        await client.call(kind, hub="h1", run=waits)
                assert await client.find("last") in {run, waits}
                with pytest.raises(UsageError):
                    await client.call("resume", hub="h1", run=run)
            for message in list(watcher.got):
                checker.check(message.topic, message.payload)
    seen = {(topic, type_.split(".")[2]) for topic, type_ in checker.seen if ".note." in type_}
    assert seen >= {
        ("agent_card", "card"), ("hub_card", "card"), ("hub_reply", "accepted"), ("agent_control", "recorded"),
        ("agent_control", "confirmed"), ("agent_request", "claim"), ("submission", "claim"), ("hub_files", "get"),
        ("hub_files", "put"), ("agent_files", "chunk"), ("agent_files", "stored"), ("submission", "put"),
        ("client_files", "more"), ("client_files", "stored"), ("client_files", "chunk"), ("submission", "pause"),
        ("submission", "list"), ("client_answer", "runs"), ("client_answer", "wants"), ("client_answer", "accepted"),
        ("client_answer", "lines"), ("client_answer", "done"), ("client_answer", "refused"), ("run_event", "claim"),
    }  # fmt: skip


@pytest.mark.services
async def test_an_agent_says_nothing_under_its_lease_but_what_agents_say(tmp_path: Path) -> None:
    """It would cancel the run, pause it, say that another hub owns it, and let an agent join."""
    events: list[Event] = [
        CancelAsked(reason="I want it"),
        RunPaused(reason="I want it", kind="person"),
        RunMoved(hub="mine", epoch=99),
        AgentJoined(agent="me/1", roles=("coder",), slots=9),
        GoalAccepted(reason="I want it"),
    ]
    me = "anonymous/liar"
    plan = [{"id": "a", "role": "liar", "do": "Lie.", "accept": [{"file": "a.txt"}]}]
    async with (
        broker() as there,
        hub(there.url, tmp_path / "hub"),
        MqttTransport(there.url, source=f"/swarm/agent/{me}") as transport,
        client_on(there.url, announce=print) as client,
    ):
        bus = Bus(transport)
        async with bus.subscribe(topics.agent_requests(me)) as inbox:
            card_of_mine = card(AgentCard(roles=(RoleCard(name="liar"),), slots=1))
            await bus.publish_note(topics.agent_card(me), card_of_mine, retain=True)
            run = await submitted(client, tmp_path, plan=plan)
            request = await asyncio.wait_for(inbox.get(), 20)
            stamp = Stamp(f"/swarm/agent/{me}", new_id, utc_now)
            for event in [*events, WorkFailed(reason="enough", kind="error", retryable=False)]:
                about = {"subject": request.envelope.subject, "causation_id": request.envelope.id, "sequence": 1}
                await bus.publish(request.attachments["reply_to"], stamp(run, event, **about))
            log = await log_of(client, run)
    by_me = [one.event for one in log if one.source.endswith(me)]
    assert [type(one) for one in by_me] == [WorkFailed]
    assert not [one for one in log if one.event in events]
