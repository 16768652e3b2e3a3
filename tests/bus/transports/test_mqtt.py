"""The transport over a real broker: what happens when connections, brokers and others misbehave."""

import asyncio
import gc
import hashlib
import inspect
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiomqtt
import pytest
from paho.mqtt.client import Client as Paho

from bus import broker_link, topics, wire
from bus.broker_address import BrokerAddress
from bus.broker_link import BrokerLink, LinkOptions
from bus.errors import BadAddress, BusUnavailable, NotAllowed, NotFound, TooLarge
from bus.parcels import INLINE_BYTES
from bus.pubsub import Bus, Note
from bus.transport import Message, Subscription
from bus.transports import mqtt
from bus.transports.mqtt import MqttTransport
from tests.support.broker import Broker, broker
from tests.support.certificates import make_certificates

pytestmark = pytest.mark.services

RAW = "raw"


@pytest.fixture
async def running() -> AsyncIterator[Broker]:
    async with broker() as one:
        yield one


def word(text: object, **fields: object) -> Message:
    return Message(None, {"note": "word", "text": str(text), **fields})


def text_of(message: Message) -> str | None:
    return message.attachments.get("text")


async def take(subscription: Subscription, count: int) -> list[str | None]:
    texts = []
    async with asyncio.timeout(30):
        for _ in range(count):
            delivery = await subscription.get()
            texts.append(text_of(delivery.message))
            delivery.acknowledge()
    return texts


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for something that the broker or the network has a part in."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def cut(transport: MqttTransport) -> None:
    """End the connection as a network does: no good-bye."""
    assert transport._link is not None
    transport._link._paho.socket().shutdown(socket.SHUT_RDWR)


@asynccontextmanager
async def stranger(running: Broker, **options: Any) -> AsyncIterator[aiomqtt.Client]:
    """Somebody else's client, who may publish anything."""
    async with aiomqtt.Client("127.0.0.1", running.port, protocol=aiomqtt.ProtocolVersion.V5, **options) as client:
        yield client


# What we know of the client


def test_the_private_names_that_we_use_are_there() -> None:
    for name in ("_on_connect", "_on_disconnect"):
        assert name in broker_link.PRIVATE_NAMES
        assert callable(getattr(aiomqtt.Client, name))
    assert "self._client: mqtt.Client" in inspect.getsource(aiomqtt.Client.__init__)
    assert list(inspect.signature(Paho.ack).parameters) == ["self", "mid", "qos"]
    assert list(inspect.signature(Paho.manual_ack_set).parameters) == ["self", "on"]
    for name in ("loop_read", "loop_write", "loop_misc", "want_write", "socket", "max_inflight_messages_set"):
        assert callable(getattr(Paho, name))


def test_only_names_on_the_list_are_used() -> None:
    source = inspect.getsource(broker_link)
    assert set(re.findall(r"self\._client\.(_[a-z]\w*)", source)) <= set(broker_link.PRIVATE_NAMES)
    assert not re.findall(r"paho\._[a-z]", source)


async def test_small_messages_do_not_wait_for_more(running: Broker) -> None:
    async with MqttTransport(running.url) as transport:
        assert transport._link is not None
        assert transport._link._paho.socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


# Who is let in


async def test_nobody_there_is_said_at_once() -> None:
    with pytest.raises(BusUnavailable, match=r"mqtt://ada@127.0.0.1:1: no broker answers .* Is it running\?"):
        async with MqttTransport("mqtt://ada@127.0.0.1:1", environ={}):
            pass


@pytest.mark.parametrize("environ", [{}, {"SWARM_BUS_USER": "ada", "SWARM_BUS_PASSWORD": "hunter2"}])
async def test_a_refused_login_is_final_and_shows_no_password(environ: dict[str, str]) -> None:
    async with broker(users={"ada": "right"}) as running:
        with pytest.raises(BusUnavailable, match=r"the broker refuses us: .*SWARM_BUS_PASSWORD") as told:
            async with MqttTransport(running.url, environ=environ):
                pass
        assert "hunter2" not in str(told.value)
        environ = {"SWARM_BUS_USER": "ada", "SWARM_BUS_PASSWORD": "right"}
        async with MqttTransport(running.url, environ=environ) as transport:
            assert transport.user == "ada"


async def test_without_a_login_the_user_is_anonymous(running: Broker) -> None:
    async with MqttTransport(running.url, environ={}) as transport:
        assert topics.agent_card(f"{transport.user}/1")


def test_a_user_that_cannot_stand_in_topics_is_refused() -> None:
    with pytest.raises(BadAddress, match="the user's name stands in topics"):
        MqttTransport("mqtt://a.b@host", environ={})


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")  # `paho`, after a failed handshake
async def test_encrypted_connections_check_who_answers(tmp_path) -> None:
    made = make_certificates(tmp_path)
    async with broker(certificates=made) as running:
        async with (
            MqttTransport(running.address(query=f"?ca={made}/ca.crt")) as transport,
            transport.subscribe("a") as it,
        ):
            await transport.publish("a", word("x" * 50_000))
            assert await take(it, 1) == ["x" * 50_000]
        with pytest.raises(BusUnavailable, match=r"certificate is not trusted: .*Name the file .*\?ca=FILE"):
            async with MqttTransport(running.address()):
                pass
        with pytest.raises(BusUnavailable, match=r"not trusted: .*'127\.1'\. Write the name that it is for"):
            async with MqttTransport(f"mqtts://127.1:{running.port}?ca={made}/ca.crt"):
                pass
        with pytest.raises(BusUnavailable, match="write mqtts://"):
            async with MqttTransport(f"mqtt://127.0.0.1:{running.port}"):
                pass
    async with broker() as plain:
        with pytest.raises(BusUnavailable, match="no encrypted connection came about"):
            async with MqttTransport(f"mqtts://127.0.0.1:{plain.port}"):
                pass
    gc.collect()


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
async def test_a_broker_may_want_a_certificate_of_ours(tmp_path) -> None:
    made = make_certificates(tmp_path)
    async with broker(certificates=made, client_certificates=True) as running:
        ours = f"?ca={made}/ca.crt&cert={made}/client.crt&key={made}/client.key"
        async with MqttTransport(running.address(query=ours)) as transport:
            await transport.publish("a", word("x"))
        with pytest.raises(BusUnavailable):
            async with MqttTransport(running.address(query=f"?ca={made}/ca.crt")):
                pass
    gc.collect()


async def test_giving_up_while_it_connects_leaves_nothing_behind() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        connecting = asyncio.create_task(MqttTransport(f"mqtt://127.0.0.1:{silent.getsockname()[1]}").__aenter__())
        there, _ = await asyncio.to_thread(silent.accept)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        there.settimeout(5)
        with there:
            while await asyncio.to_thread(there.recv, 4096):
                pass


async def test_what_is_no_broker_is_said_so() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BusUnavailable, match=rf"{port}: "):
            async with MqttTransport(f"mqtt://127.0.0.1:{port}"):
                pass


async def test_what_says_nothing_at_all_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker_link, "CONNECT_TIMEOUT_S", 0.3)

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(keep_silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(BusUnavailable, match=rf"{port}: something is there, but does not answer as an MQTT 5"):
            async with MqttTransport(f"mqtt://127.0.0.1:{port}"):
                pass


# Who waits while another one asks


async def test_whose_filter_another_was_asking_for_when_it_was_cancelled_asks_itself(
    running: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscribe, asking = BrokerLink.subscribe, asyncio.Event()

    async def never(*_: object, **__: object) -> None:
        asking.set()
        await asyncio.Event().wait()

    async def first(transport: MqttTransport) -> None:
        async with transport.subscribe(f"{RAW}/+"):
            raise AssertionError("it was asked for")

    async with MqttTransport(running.url) as transport:
        monkeypatch.setattr(BrokerLink, "subscribe", never)
        cancelled = asyncio.create_task(first(transport))
        await asking.wait()
        monkeypatch.setattr(BrokerLink, "subscribe", subscribe)
        heard: list[str | None] = []

        async def listen() -> None:
            async with transport.subscribe(f"{RAW}/+") as inbox:
                heard.append("subscribed")
                heard.extend(await take(inbox, 1))

        listening = asyncio.create_task(listen())
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await until(lambda: heard)
        await transport.publish(f"{RAW}/x", word("for all"))
        async with asyncio.timeout(10):
            await listening
        assert heard == ["subscribed", "for all"]


# What is allowed


async def test_what_is_not_allowed_is_an_error_with_the_topic() -> None:
    async with (
        broker(users={"ada": "x"}, acl="user ada\ntopic write mine/#\ntopic read mine/#\n") as running,
        MqttTransport(running.address("ada"), environ={"SWARM_BUS_PASSWORD": "x"}) as transport,
        transport.subscribe("mine/+") as mine,
    ):
        with pytest.raises(NotAllowed, match="refuses what is published to 'theirs/1': Not authorized"):
            await transport.publish("theirs/1", word("forged"))
        await transport.publish("mine/1", word("ours"))
        assert await take(mine, 1) == ["ours"]


async def test_what_nobody_hears_is_told(running: Broker) -> None:
    unheard: list[str] = []
    async with MqttTransport(running.url, on_unheard=unheard.append) as transport:
        await transport.publish("a", word("x"))
        async with transport.subscribe("b"):
            await transport.publish("b", word("x"))
    assert unheard == ["a"]


async def test_what_is_too_large_is_not_sent(running: Broker) -> None:
    async with broker(max_packet_size=20_000) as small, MqttTransport(small.url) as transport:
        with pytest.raises(TooLarge, match="to 'a' is too large: the broker takes packets of 20,000 bytes"):
            await transport.publish("a", word("x" * 20_000))
        async with transport.subscribe("a") as it:
            await transport.publish("a", word("x" * 15_000))
            assert await take(it, 1) == ["x" * 15_000]
        assert transport._links == 1
    async with MqttTransport(running.url) as transport:
        with pytest.raises(TooLarge):
            await transport.publish("a", word("x" * (1 << 20)))


# Connections end


async def test_a_killed_broker_is_waited_for_and_subscribed_to_again(running: Broker) -> None:
    told: list[str] = []
    connected: list[int] = []

    async def on_connect() -> None:
        connected.append(1)

    async with (
        MqttTransport(running.url, announce=told.append, on_connect=on_connect) as transport,
        transport.subscribe("a/+") as it,
        transport.subscribe("+/b") as other,
    ):
        running.kill9()
        late = asyncio.create_task(transport.publish("a/b", word("while it was away")))
        await running.restart()
        await late
        assert await take(it, 1) == await take(other, 1) == ["while it was away"]
        await until(lambda: len(connected) == 2)
    assert len(told) == 2
    assert "the connection is lost" in told[0]
    assert "connected again after" in told[1]


async def test_what_cannot_be_published_in_time_is_an_error(running: Broker) -> None:
    async with MqttTransport(running.url, patience_s=0.2, announce=lambda _: None) as transport:
        running.kill9()
        with pytest.raises(BusUnavailable, match=r"did not come back within 0.2 s"):
            await transport.publish("a", word("x"))
        with pytest.raises(BusUnavailable, match=r"did not come back"):
            async with transport.subscribe("a"):
                pass


async def test_a_broker_that_hangs_is_noticed(running: Broker) -> None:
    told: list[str] = []
    async with MqttTransport(running.url, keepalive_s=1, patience_s=0.1, announce=told.append) as transport:
        running.stop()
        with pytest.raises(BusUnavailable):
            async with asyncio.timeout(20):
                await transport.publish("a", word("x"))
        running.cont()
        await until(lambda: len(told) == 2)
        await transport.publish("a", word("x"))


async def test_what_was_not_acknowledged_comes_again(running: Broker) -> None:
    options: dict[str, Any] = {"client_id": "hub", "session_expiry_s": 60, "clean_start": False}
    async with (
        MqttTransport(running.url, announce=lambda _: None, **options) as transport,
        transport.subscribe("a") as it,
    ):
        for text in "123":
            await transport.publish("a", word(text))
        first, second = await it.get(), await it.get()
        second.acknowledge()
        await transport.publish("b", word("after the acknowledgement"))
        cut(transport)
        assert await take(it, 1) == ["3"]  # here since before; whether it counts as dealt with is unknown
        assert set(await take(it, 2)) == {"1", "3"}
        first.acknowledge()  # of the old connection: means nothing any more
        await transport.publish("a", word("4"))
        await it.get()
        await transport.publish("a", word("5"))
    async with MqttTransport(running.url, **options) as again:
        await asyncio.sleep(0.05)  # what the session kept comes before anybody subscribes here
        async with again.subscribe("a") as it:
            assert await take(it, 2) == ["4", "5"]


async def test_two_with_one_client_id_are_told(running: Broker) -> None:
    told: list[str] = []
    async with (
        MqttTransport(running.url, client_id="hub", announce=told.append),
        MqttTransport(running.url, client_id="hub", announce=told.append),
    ):
        await until(lambda: any("does another process use the client id 'hub'?" in line for line in told))


async def test_a_hook_that_fails_after_a_reconnect_ends_the_transport() -> None:
    calls: list[int] = []

    async def on_connect() -> None:
        calls.append(1)
        if len(calls) > 1:
            raise NotAllowed("no card")

    async with (
        broker() as running,
        MqttTransport(running.url, announce=lambda _: None, on_connect=on_connect) as transport,
        transport.subscribe("a") as it,
    ):
        cut(transport)
        with pytest.raises(NotAllowed, match="no card"):
            await it.get()


async def test_a_closed_transport_says_so(running: Broker) -> None:
    transport = MqttTransport(running.url)
    with pytest.raises(RuntimeError, match="not open"):
        await transport.publish("a", word("x"))
    async with transport:
        pass
    with pytest.raises(RuntimeError, match="not open"):
        await transport.publish("a", word("x"))


# Retained words


async def test_a_word_that_is_gone_after_a_reconnect_is_reported_as_cleared(running: Broker) -> None:
    async with MqttTransport(running.url, announce=lambda _: None) as transport, transport.subscribe("card/+") as it:
        for name in ("stays", "goes"):
            await transport.publish(f"card/{name}", word(name), retain=True)
        await take(it, 2)
        running.kill9()
        await running.restart()
        await transport.publish("card/stays", word("stays"), retain=True)
        assert await take(it, 1) == ["stays"]
        async with asyncio.timeout(10):
            gone = await it.get()
        assert (gone.topic, gone.message) == ("card/goes", Message(None))
        async with transport.subscribe("card/#") as later:
            assert await take(later, 1) == ["stays"]
            assert later.get_nowait() is None


async def test_words_come_once_over_any_reconnects_and_overlaps(running: Broker) -> None:
    async with MqttTransport(running.url, announce=lambda _: None) as transport:
        await transport.publish("card/1", word("one"), retain=True)
        async with transport.subscribe("card/+") as it:
            assert await take(it, 1) == ["one"]
            cut(transport)
            await until(lambda: transport._links == 2 and transport._link)
            async with transport.subscribe("+/1", "card/1") as other:
                assert await take(other, 1) == ["one"]
                await transport.publish("card/1", word("two"), retain=True)
                assert await take(it, 1) == await take(other, 1) == ["two"]


@pytest.mark.parametrize("clean", [True, False])
async def test_the_card_is_cleared_when_its_owner_is_gone(running: Broker, clean: bool) -> None:  # noqa: FBT001
    card = topics.agent_card("ada/1")
    async with MqttTransport(running.url) as hub, hub.subscribe(topics.agent_cards()) as cards:
        if clean:
            async with MqttTransport(running.url, will_topic=card) as agent:
                await agent.publish(card, word("here"), retain=True)
                assert await take(cards, 1) == ["here"]
        else:
            options = LinkOptions(BrokerAddress.parse(running.url, {}), "agent", will_topic=card)
            link = await BrokerLink.open(options, 1, lambda _: None)
            await link.publish(card, b'{"type":"swarm.note.card.v1","specversion":"1.0","id":"1","source":"/a"}',
                               qos=1, retain=True, properties=None)  # fmt: skip
            await take(cards, 1)
            link._paho.socket().shutdown(socket.SHUT_RDWR)
        assert await take(cards, 1) == [None]


# Many, slow, hostile


async def test_ten_thousand_messages_arrive_through_a_window_of_ten(running: Broker) -> None:
    count = 10_000
    async with (
        MqttTransport(running.url, receive_maximum=10) as reader,
        MqttTransport(running.url) as writer,
        reader.subscribe("a") as it,
    ):
        room = asyncio.Semaphore(200)  # within what the broker queues for one client

        async def publish(number: int) -> None:
            await writer.publish("a", word(number))

        async def write() -> None:
            async with asyncio.TaskGroup() as tasks:
                for number in range(count):
                    await room.acquire()
                    tasks.create_task(publish(number))

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(write())
            for number in range(count):
                delivery = await it.get()
                assert text_of(delivery.message) == str(number)
                delivery.acknowledge()
                room.release()
        assert not reader.dropped


async def test_a_slow_consumer_holds_what_receive_maximum_says(running: Broker) -> None:
    async with (
        MqttTransport(running.url, receive_maximum=3) as transport,
        transport.subscribe("a") as it,
    ):
        for number in range(20):
            await transport.publish("a", word(number))
        deliveries = [await it.get() for _ in range(3)]
        await transport.publish("b", word("a trip to the broker and back"))
        assert len(it) == 0
        deliveries[1].acknowledge()
        deliveries.append(await it.get())
        assert text_of(deliveries[-1].message) == "3"
        for delivery in deliveries:
            delivery.acknowledge()
        assert await take(it, 16) == [str(number) for number in range(4, 20)]


async def test_live_events_are_dropped_for_a_watcher_that_sleeps(running: Broker) -> None:
    topic = topics.run_event("run-1", "TimePassed")
    async with (
        MqttTransport(running.url) as transport,
        transport.subscribe(topics.run_events("run-1"), capacity=5) as it,
        transport.subscribe("done") as done,
    ):
        for number in range(20):
            await transport.publish(topic, word(number))
        await transport.publish("done", word("done"))
        await take(done, 1)
        assert transport.dropped == {"slow": 15}
        assert await take(it, 5) == ["0", "1", "2", "3", "4"]


async def test_what_others_write_wrongly_is_dropped_and_counted(running: Broker) -> None:
    async with (
        MqttTransport(running.url, receive_maximum=2, max_packet=10_000) as transport,
        transport.subscribe("a/#") as it,
        stranger(running) as client,
    ):
        for payload in (b"\xff", b"{}", b'{"type":"swarm.note.x.v9","specversion":"1.0"}', b"[" * 5_000):
            await client.publish("a/b", payload, qos=1)
        await client.publish("a/b", b" " * 9_999, qos=1)
        await client.publish("a/b", b" " * 100_000, qos=1)
        await client.publish("a/b", b"not ours", qos=0)
        await client.publish("a/b", b"not ours", qos=2)
        await transport.publish("a/b", word("still works"))
        assert await take(it, 1) == ["still works"]
        assert transport.dropped == {"malformed": 6, "too_new": 1, "too_large": 1}
        assert transport._links == 1


# Claims


class Store:
    """Parcels in memory, which may be late, missing or forged."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.open = asyncio.Event()
        self.open.set()

    async def put(self, _topic: str, payload: bytes) -> Mapping[str, Any]:
        sha256 = hashlib.sha256(payload).hexdigest()
        self.kept[sha256] = payload
        return {"sha256": sha256, "bytes": len(payload), "lease": "l-1"}

    async def get(self, _topic: str, claim: Mapping[str, Any]) -> bytes:
        assert claim.keys() == {"sha256", "bytes", "lease"}
        await self.open.wait()
        if claim["sha256"] not in self.kept:
            raise NotFound(f"no file {claim['sha256']}")
        return self.kept[claim["sha256"]]


LARGE = "x" * INLINE_BYTES


async def test_a_large_message_goes_by_claim_and_in_its_turn(running: Broker) -> None:
    store = Store()
    async with (
        MqttTransport(running.url, parcels=store) as transport,
        MqttTransport(running.url) as watcher,
        transport.subscribe("a", "b") as it,
        watcher.subscribe("a") as raw,
    ):
        async with asyncio.TaskGroup() as tasks:
            for text in ("1", LARGE, "3"):
                tasks.create_task(transport.publish("a", word(text)))
        assert await take(it, 3) == ["1", LARGE, "3"]
        assert len(store.kept) == 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await take(raw, 3)
        assert watcher.dropped == {"claim_without_store": 1}


async def test_a_claim_that_waits_holds_up_no_other_subscription(running: Broker) -> None:
    store = Store()
    store.open.clear()
    async with (
        MqttTransport(running.url, parcels=store) as transport,
        transport.subscribe("a") as it,
        transport.subscribe("files") as files,
    ):
        await transport.publish("a", word(LARGE))
        await transport.publish("files", word("chunk"))
        waiting = asyncio.create_task(it.get())
        assert await take(files, 1) == ["chunk"]
        assert it.get_nowait() is None
        store.open.set()
        assert text_of((await waiting).message) == LARGE


async def test_claims_leave_room_for_the_files_that_they_wait_for(running: Broker) -> None:
    store = Store()
    store.open.clear()
    async with (
        MqttTransport(running.url, parcels=store, receive_maximum=4) as transport,
        transport.subscribe("a") as it,
        transport.subscribe("files") as files,
    ):
        for number in range(10):
            await transport.publish("a", word(LARGE, number=number))
        await transport.publish("files", word("chunk"))
        assert await take(files, 1) == ["chunk"]
        store.open.set()
        for number in range(10):
            delivery = await it.get()
            assert delivery.message.attachments["number"] == number
            delivery.acknowledge()
        assert it.claims_held == 0


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda kept: kept.clear(), "claim_not_there"),
        (lambda kept: kept.update(dict.fromkeys(kept, b"forged")), "claim_forged"),
    ],
)
async def test_a_claim_that_cannot_be_redeemed_is_dropped(running: Broker, spoil, reason) -> None:
    store = Store()
    async with MqttTransport(running.url, parcels=store) as transport, transport.subscribe("a") as it:
        await transport.publish("a", word(LARGE))
        spoil(store.kept)
        await transport.publish("a", word("after it"))
        assert await take(it, 1) == ["after it"]
        assert transport.dropped == {reason: 1}


@pytest.mark.parametrize(
    "claim",
    [
        {},
        {"sha256": "../../etc/passwd", "bytes": 5},
        {"sha256": "a" * 64, "bytes": True},
        {"sha256": "a" * 64, "bytes": 10**12},
        {"sha256": "a" * 64, "bytes": 0},
    ],
)
async def test_a_hostile_claim_fetches_nothing(running: Broker, claim: dict[str, object]) -> None:
    async with MqttTransport(running.url, parcels=Store()) as transport, transport.subscribe("a") as it:
        await transport.publish("a", Message(None, {"note": "claim", **claim}))
        await transport.publish("a", word("after it"))
        assert await take(it, 1) == ["after it"]
        assert transport.dropped == {"claim_malformed": 1}


async def test_a_claim_for_a_claim_is_none(running: Broker) -> None:
    store = Store()
    inner = mqtt.wire.encode(Message(None, {"note": "claim", "sha256": "a" * 64}), source="/s", note_id="1")
    claim = await store.put("a", inner)
    async with MqttTransport(running.url, parcels=store) as transport, transport.subscribe("a") as it:
        await transport.publish("a", Message(None, {"note": "claim", **claim}))
        await transport.publish("a", word("after it"))
        assert await take(it, 1) == ["after it"]
        assert transport.dropped == {"claim_malformed": 1}


async def test_a_claim_of_too_many_values_is_dropped_and_does_not_come_again(running: Broker) -> None:
    store = Store()
    head = b'{"type":"swarm.note.submit.v1","specversion":"1.0","id":"1","source":"x","data":{"x":['
    claim = await store.put("a", head + b"[]," * (4 << 20) + b"0]}}")
    kept = {"client_id": "stays", "session_expiry_s": 60, "clean_start": False, "parcels": store}
    async with MqttTransport(running.url, **kept) as transport, transport.subscribe("a") as it:
        await transport.publish("a", Message(None, {"note": "claim", **claim}))
        await transport.publish("a", word("after it"))
        assert await take(it, 1) == ["after it"]
        assert transport.dropped == {"claim_malformed": 1}
    async with MqttTransport(running.url, **kept) as transport, transport.subscribe("a") as it:
        await transport.publish("a", word("then"))
        assert await take(it, 1) == ["then"]
        assert not transport.dropped


@pytest.mark.parametrize("topic", [topics.agent_files("ada/1"), topics.hub_files("hub-1", "ada/1")])
async def test_files_never_go_by_claim(running: Broker, topic: str) -> None:
    store = Store()
    async with MqttTransport(running.url, parcels=store) as transport, transport.subscribe(topic) as it:
        await transport.publish(topic, word(LARGE))
        assert await take(it, 1) == [LARGE]
        assert not store.kept


async def test_what_expires_at_the_broker_and_what_others_give_more_properties_to_comes_like_any_other() -> None:
    async with broker() as there, MqttTransport(there.url) as hub, MqttTransport(there.url) as watcher:
        note = Note("told", {"so": True})
        async with Bus(watcher).subscribe(topics.run_outcome("run"), topics.client_answer("a/b"), kinds=Note) as inbox:
            await Bus(hub).publish_note(topics.run_outcome("run"), note, retain=True)
            async with asyncio.timeout(10):
                assert (await inbox.get()).content == note
            payload = wire.encode(Message(None, {"note": "told", "so": True}), source="/x", note_id="1")
            foreign = ["mosquitto_pub", "-V", "5", "-p", str(there.port), "-q", "1", "-t", topics.client_answer("a/b")]
            foreign += ["-D", "publish", "user-property", "who", "another", "-D", "publish", "response-topic", "x/y"]
            subprocess.run([*foreign, "-m", payload.decode()], check=True)
            async with asyncio.timeout(10):
                assert (await inbox.get()).content == note
