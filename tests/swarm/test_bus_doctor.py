"""`swarm doctor bus`: what it finds at brokers, right ones and wrong ones, and that it leaves nothing there."""

import datetime as dt
import json

import pytest

from bus import topics
from bus.errors import BadAddress
from swarm.brokers.broker_config import acl, config_files, loopback_config
from swarm.brokers.bus_doctor import _compared, look_at_bus
from swarm.cli import main
from tests.support.broker import broker
from tests.support.mqtt_client import PlainClient
from tests.support.shipped_broker import free_port, make_certificates, make_passwords, running


async def look(url, **environ):
    return {finding.what: finding async for finding in look_at_bus(url, environ)}


def bad(findings):
    return {what for what, finding in findings.items() if not finding.good}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bus")
    for name, text in config_files(str(folder), str(folder)).items():
        (folder / name).write_text(text)
    make_certificates(folder)
    make_passwords(folder / "passwords", ["hub", "client", "coder1"])
    with running(folder) as port:
        yield folder, port


@pytest.mark.services
@pytest.mark.parametrize(
    ("user", "rights"),
    [("coder1", "only what is its own"), ("client", "only what is its own"), ("hub", "right for a hub")],
)
async def test_nothing_is_wrong_with_the_broker_that_we_ship_and_nothing_stays_there(shipped, user, rights):
    folder, port = shipped
    with PlainClient(port, "hub", "of-hub-only", host="localhost", ca=folder / "ca.crt") as hub:
        hub.subscribe("swarm/v1/#")
        found = await look(f"mqtts://{user}@localhost:{port}?ca={folder}/ca.crt", SWARM_BUS_PASSWORD=f"of-{user}-only")
        assert not bad(found)
        assert rights in found["rights"].told
        assert ("retained" in found) == (user != "client")  # a client has no card to try it with
        hub.publish(topics.hub_card("fence"))
        hub.topics_until(topics.hub_card("fence"))
        assert len({message.topic for message in hub.got if message.payload and message.payload != b"x"}) <= 1
    with PlainClient(port, "hub", "of-hub-only", host="localhost", ca=folder / "ca.crt") as hub:
        hub.subscribe("swarm/v1/#")
        hub.publish(topics.hub_card("fence"))
        assert hub.topics_until(topics.hub_card("fence")) == []


@pytest.mark.services
async def test_each_fault_of_a_broker_is_named_with_the_line_that_mends_it():
    extra = ["max_inflight_messages 20"]
    async with broker(users={"coder1": "secret"}, max_packet_size=100_000, extra=extra) as one:
        found = await look(one.address("coder1"), SWARM_BUS_PASSWORD="secret")
    assert bad(found) == {"largest packet", "in flight", "rights"}
    assert "max_packet_size" in found["largest packet"].remedy
    assert "max_inflight_messages" in found["in flight"].remedy
    assert "wrong for all others" in found["rights"].told


@pytest.mark.services
async def test_an_access_list_with_a_hole_is_told_with_what_can_be_written_through_it():
    leaky = acl() + "\npattern write swarm/v1/run/+/outcome\n"
    async with broker(users={"coder1": "secret"}, acl=leaky, extra=["max_inflight_messages 1000"]) as one:
        found = await look(one.address("coder1"), SWARM_BUS_PASSWORD="secret")
    assert bad(found) == {"rights"}
    assert found["rights"].told == "may write what is others': outcomes of runs"


@pytest.mark.services
async def test_a_broker_without_retained_messages_is_named():
    async with broker(extra=["retain_available false"]) as one:
        found = await look(one.url)
    assert bad(found) & {"connection", "retained"}


@pytest.mark.services
async def test_hubs_that_are_there_are_named_and_a_clock_that_is_behind_theirs():
    async with broker(extra=["max_inflight_messages 1000"]) as one:
        with PlainClient(one.port) as hub:
            late = (dt.datetime.now(dt.UTC) + dt.timedelta(seconds=100)).isoformat()
            card = {"specversion": "1.0", "id": "1", "source": "/swarm/hub/h1", "type": "swarm.note.card.v1"}
            hub.publish(topics.hub_card("h1"), json.dumps({**card, "data": {"time": late}}).encode(), retain=True)
            hub.publish(topics.hub_card("h2"), b"\xff not a card", retain=True)
            found = await look(one.url)
    assert found["hubs"].told == "h1"
    assert bad(found) == {"clock"}
    assert "behind a hub's by 9" in found["clock"].told or "behind a hub's by 100" in found["clock"].told


@pytest.mark.services
async def test_a_login_that_is_wrong_and_a_broker_that_is_not_there_are_told_not_raised():
    async with broker(users={"coder1": "secret"}) as one:
        found = await look(one.address("coder1"), SWARM_BUS_PASSWORD="other")
        assert bad(found) == {"connection"}
        assert "SWARM_BUS_PASSWORD" in found["connection"].told
    found = await look(f"mqtt://127.0.0.1:{free_port()}")
    assert bad(found) == {"connection"}
    assert "swarm broker" in found["connection"].remedy


@pytest.mark.services
async def test_the_broker_for_a_try_has_nothing_to_mend():
    lines = loopback_config(0).splitlines()
    kept = [line for line in lines if line.startswith(("max_", "set_"))]
    async with broker(extra=[line for line in kept if "packet" not in line and "nodelay" not in line]) as one:
        assert not bad(await look(one.url))


async def test_a_way_that_others_can_listen_on_is_told_before_anything_is_sent():
    found = {}
    async for finding in look_at_bus("mqtt://broker.invalid", {}):
        found[finding.what] = finding
        break
    assert bad(found) == {"way"}
    assert "mqtts://" in found["way"].remedy


async def test_an_address_that_is_none_is_an_error_of_usage():
    with pytest.raises(BadAddress):
        await look("http://127.0.0.1")


def test_messages_that_wait_at_the_broker_show_in_the_echo():
    assert _compared([0.1] * 20, [0.101] * 20).good  # far away, and nothing waits
    waits = _compared([0.001] * 20, [0.041] * 20)
    assert not waits.good
    assert "set_tcp_nodelay" in waits.remedy


@pytest.mark.parametrize("words", [["bus"], ["--bus", "mqtt://127.0.0.1"], ["models", "--bus", "mqtt://127.0.0.1"]])
def test_the_part_and_its_address_go_together(words, capsys):
    assert main(["doctor", *words]) == 2
    assert "go together" in capsys.readouterr().err


def test_the_command_says_what_is_wrong_and_exits_with_3(capsys):
    assert main(["doctor", "bus", "--bus", f"mqtt://127.0.0.1:{free_port()}", "--json"]) == 3
    said = json.loads(capsys.readouterr().out)
    assert said["ok"] is False
    assert [finding["what"] for finding in said["bus"]] == ["way", "connection"]
