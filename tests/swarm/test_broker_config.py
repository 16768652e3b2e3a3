"""The configuration that we print: what it opens to whom, and all that it refuses, by a real mosquitto."""

import itertools
import ssl
import threading

import pytest

from bus import topics
from swarm.brokers.broker_config import acl, broker_config, config_files, loopback_config
from tests.support.mqtt_client import NOT_AUTHORIZED, PlainClient, Refused
from tests.support.shipped_broker import make_certificates, make_passwords, running

AGENT, OTHER = "coder1/one", "coder2/two"
CLIENT, OTHER_CLIENT = "client/shell", "coder2/shell"
FENCE = "swarm/v1/hub/h1/card"
"""All may read it, so its arrival shows that what was sent before it has arrived or never will."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bus")
    for name, text in config_files(str(folder), str(folder)).items():
        (folder / name).write_text(text)
    make_certificates(folder)
    make_passwords(folder / "passwords", ["hub", "client", "coder1", "coder2"])
    return folder


@pytest.fixture(scope="module")
def login(folder):
    """Connect as one of the users."""
    with running(folder) as port:

        def connect(user, **options):
            password = f"of-{user}-only"
            return PlainClient(port, user, password, host="localhost", ca=folder / "ca.crt", **options)

        connect.port = port
        yield connect


OWN = [
    topics.agent_card(AGENT),
    topics.hub_reply("h1", AGENT, "r1"),
    topics.hub_files("h1", AGENT),
]
FORBIDDEN = {
    "another's card": topics.agent_card(OTHER),
    "another's reply": topics.hub_reply("h1", OTHER, "r1"),
    "another's files": topics.hub_files("h1", OTHER),
    "a request to itself": topics.agent_request(AGENT, "r1"),
    "a request to another": topics.agent_request(OTHER, "r1"),
    "a word of a hub to itself": topics.agent_control(AGENT),
    "a word of a hub to another": topics.agent_control(OTHER),
    "files to another": topics.agent_files(OTHER),
    "a hub's card": topics.hub_card("h1"),
    "an event of a run": topics.run_event("r1", "GoalAccepted"),
    "an outcome of a run": topics.run_outcome("r1"),
    "a submission": topics.submission("coder1/one"),
    "another's submission": topics.submission(CLIENT),
    "an answer to a client": topics.client_answer(CLIENT),
    "a file for a client": topics.client_files(CLIENT),
    "a topic that is not ours": "other/thing",
    "a level too many": f"{topics.agent_card(AGENT)}/more",
}


@pytest.mark.services
@pytest.mark.parametrize("topic", OWN)
def test_a_role_writes_its_own_card_replies_and_files(login, topic):
    with login("coder1") as role, login("hub") as hub:
        hub.subscribe("swarm/v1/#")
        assert role.publish(topic) != NOT_AUTHORIZED
        hub.wait(lambda: any(message.topic == topic for message in hub.got))


@pytest.mark.services
@pytest.mark.parametrize("topic", FORBIDDEN.values(), ids=FORBIDDEN)
def test_a_role_writes_nothing_else(login, topic):
    with login("coder1") as role, login("hub") as hub:
        hub.subscribe("#")
        assert role.publish(topic) == NOT_AUTHORIZED
        hub.publish(FENCE)
        assert topic not in hub.topics_until(FENCE)


MINE = [topics.agent_request(AGENT, "r1"), topics.agent_control(AGENT), topics.agent_files(AGENT)]
OF_OTHERS = [
    topics.agent_request(OTHER, "r1"),
    topics.agent_control(OTHER),
    topics.agent_files(OTHER),
    topics.agent_card(OTHER),
    topics.hub_reply("h1", OTHER, "r1"),
    topics.hub_files("h1", OTHER),
    topics.run_event("r1", "SubtaskAssigned"),
    topics.run_outcome("r1"),
    topics.submission(CLIENT),
    topics.client_answer(CLIENT),
    topics.client_files(CLIENT),
]


@pytest.mark.services
@pytest.mark.parametrize("pattern", ["#", "swarm/v1/#", "+/+/+/+/+/+/+", "exact"])
def test_a_role_reads_what_hubs_send_it_and_nothing_of_others(login, pattern):
    with login("coder1") as role, login("hub") as hub:
        for wanted in [FENCE, *MINE, *OF_OTHERS] if pattern == "exact" else [FENCE, *MINE, pattern]:
            role.subscribe(wanted)
        for topic in [*OF_OTHERS, *MINE, FENCE]:
            assert hub.publish(topic) != NOT_AUTHORIZED
        # A broker may send one message once for each filter that it matches.
        assert [topic for topic, _ in itertools.groupby(role.topics_until(FENCE))] == MINE


@pytest.mark.services
def test_a_shared_subscription_gives_a_role_nothing_of_others(login):
    with login("coder1") as role, login("hub") as hub:
        role.subscribe("$share/thief/swarm/v1/agent/#")
        role.subscribe(FENCE)
        for topic in [*OF_OTHERS, FENCE]:
            hub.publish(topic)
        assert role.topics_until(FENCE) == []


@pytest.mark.services
@pytest.mark.parametrize("topic", [topics.agent_card(OTHER), topics.run_outcome("r1"), topics.hub_card("h1")])
def test_a_forged_will_is_not_said(login, topic):
    with login("hub") as hub:
        hub.subscribe("swarm/v1/agent/+/+/card")
        hub.subscribe("swarm/v1/run/#")
        forger = login("coder1", will=(topic, b"forged", 1, True))
        try:
            with forger:
                forger.vanish()
        except Refused:
            pass  # mosquitto lets nobody in with a will that is not allowed
        with login("coder2") as other:
            assert other.publish(topics.agent_card("coder2/fence")) != NOT_AUTHORIZED
            hub.topics_until(topics.agent_card("coder2/fence"))
        assert b"forged" not in [message.payload for message in hub.got]


@pytest.mark.services
def test_a_will_of_its_own_clears_a_roles_card(login):
    card = topics.agent_card(AGENT)
    with login("hub") as hub:
        hub.subscribe("swarm/v1/agent/+/+/card")
        with login("coder1", will=(card, b"", 1, True)) as role:
            role.publish(card, b"here", retain=True)
            hub.wait(lambda: any(message.payload == b"here" for message in hub.got))
            role.vanish()
            hub.wait(lambda: hub.got[-1].topic == card and hub.got[-1].payload == b"")


@pytest.mark.services
def test_a_client_submits_hears_its_answers_and_watches_runs_and_who_is_there(login):
    answer, file, event, outcome = (
        topics.client_answer(CLIENT),
        topics.client_files(CLIENT),
        topics.run_event("r1", "PlanProposed"),
        topics.run_outcome("r1"),
    )
    heard = [answer, file, event, outcome, topics.agent_card(AGENT)]
    with login("client") as client, login("hub") as hub:
        hub.subscribe("swarm/v1/submit/+/+")
        assert client.publish(topics.submission(CLIENT)) != NOT_AUTHORIZED
        hub.wait(lambda: hub.got)
        for topic in [*heard, FENCE]:
            client.subscribe(topic)
        for topic in [*heard, FENCE]:
            hub.publish(topic)
        assert client.topics_until(FENCE) == heard


@pytest.mark.services
def test_a_client_writes_and_reads_nothing_else(login):
    forbidden = [
        topics.submission(OTHER_CLIENT), topics.client_answer(CLIENT), topics.run_event("r1", "GoalAccepted"),
        topics.run_outcome("r1"), topics.hub_card("h1"), topics.agent_card(AGENT), topics.agent_card(CLIENT),
        topics.agent_request(AGENT, "r1"), topics.agent_control(AGENT), topics.hub_reply("h1", AGENT, "r1"),
    ]  # fmt: skip
    with login("client") as client, login("hub") as hub:
        assert {topic: client.publish(topic) for topic in forbidden} == dict.fromkeys(forbidden, NOT_AUTHORIZED)
        unheard = [
            topics.agent_request(AGENT, "r1"),
            topics.submission(OTHER_CLIENT),
            topics.client_answer(OTHER_CLIENT),
            topics.client_files(OTHER_CLIENT),
        ]
        client.subscribe("#")
        for topic in [*unheard, FENCE]:
            hub.publish(topic)
        assert client.topics_until(FENCE) == []


@pytest.mark.services
@pytest.mark.parametrize("name", ["+", "coder2/+", "coder2/two"])
def test_a_user_whose_name_would_widen_a_line_gets_no_further(folder, tmp_path, name):
    for file, text in config_files(str(folder), str(tmp_path)).items():
        (tmp_path / file).write_text(text.replace(f"{folder}/passwords", f"{tmp_path}/passwords"))
    passwords = make_passwords(tmp_path / "passwords", ["hub", name])
    secret = topics.agent_request(OTHER, "r1")
    with running(tmp_path) as port:
        thief = PlainClient(port, name, passwords[name], host="localhost", ca=folder / "ca.crt")
        hub = PlainClient(port, "hub", passwords["hub"], host="localhost", ca=folder / "ca.crt")
        with thief, hub:
            thief.subscribe("swarm/v1/#")
            assert thief.publish(topics.agent_card(OTHER)) == NOT_AUTHORIZED
            hub.publish(secret)
            thief.subscribe(FENCE)  # the broker answers this after it has sent what is to be sent
            assert secret not in [message.topic for message in thief.got]


@pytest.mark.services
def test_nobody_comes_in_without_name_and_password(login, folder):
    for user, password in [(None, None), ("coder1", "of-coder2-only"), ("nobody", "of-nobody-only")]:
        with pytest.raises(Refused), PlainClient(login.port, user, password, host="localhost", ca=folder / "ca.crt"):
            pass


PAHO_LEAVES_ITS_SOCKET = pytest.mark.filterwarnings("ignore:Exception ignored in. <ssl.SSLSocket")
"""For the collector, where a handshake failed."""


@PAHO_LEAVES_ITS_SOCKET
@pytest.mark.services
def test_a_client_that_does_not_know_who_signed_the_certificate_stays_away(login):
    with (
        pytest.raises(ssl.SSLCertVerificationError),
        PlainClient(login.port, "coder1", "of-coder1-only", host="localhost", tls=True),
    ):
        pass


@PAHO_LEAVES_ITS_SOCKET
@pytest.mark.services
def test_a_certificate_for_another_host_is_not_taken(login, folder):
    with (
        pytest.raises(ssl.SSLCertVerificationError),
        PlainClient(login.port, "coder1", "of-coder1-only", host="127.0.0.1", ca=folder / "ca.crt"),
    ):
        pass


@pytest.mark.services
def test_cards_survive_a_broker_that_is_killed(folder, tmp_path):
    for name, text in config_files(str(folder), str(tmp_path)).items():
        (tmp_path / name).write_text(text)
    card = topics.agent_card(AGENT)

    def connected(port, user):
        return PlainClient(port, user, f"of-{user}-only", host="localhost", ca=folder / "ca.crt")

    kept = tmp_path / "mosquitto.db"
    with running(tmp_path) as port, connected(port, "coder1") as role:
        role.publish(card, b"here", retain=True)
        for _ in range(200):  # the broker writes once a second
            if kept.exists() and b"here" in kept.read_bytes():
                break
            threading.Event().wait(0.05)
    with running(tmp_path) as port, connected(port, "hub") as hub:
        hub.subscribe(card)
        hub.wait(lambda: hub.got)
        assert hub.got[0].payload == b"here"


def test_each_topic_that_we_have_is_named_in_the_access_list_as_bus_topics_makes_it():
    text = acl()
    lines = [words[2] for line in text.replace("%u", "coder1").splitlines() if len(words := line.split()) == 3]
    lines = [line for line in lines if line.startswith("swarm/") and line != "swarm/v1/#"]
    of_clients = [topics.agent_card(CLIENT), topics.submission(CLIENT)]
    of_clients += [topics.client_answer(CLIENT), topics.client_files(CLIENT)]
    of_runs = [topics.run_outcome("r1"), topics.run_event("r1", "GoalAccepted")]
    made = [*OWN, *MINE, *of_clients, *of_runs, topics.hub_card("h1")]
    assert [topic for topic in made if not any(topics.matches(line, topic) for line in lines)] == []
    assert [line for line in lines if not any(topics.matches(line, topic) for topic in made)] == []


def test_a_name_that_would_widen_the_access_list_is_refused():
    for name in ("+", "a/b", "a\ntopic readwrite #", "", "a b"):
        with pytest.raises(ValueError, match="cannot stand in a topic"):
            acl(clients=[name])
        with pytest.raises(ValueError, match="cannot stand in a topic"):
            acl(hubs=[name])
    with pytest.raises(ValueError, match="both a hub and a client"):
        acl(hubs=["one"], clients=["one"])


def test_a_folder_that_would_add_lines_to_the_configuration_is_refused():
    for folder in ("relative", "/a b", "/a\nallow_anonymous true", "/a#b", ""):
        with pytest.raises(ValueError, match="an absolute path"):
            broker_config(folder)
        with pytest.raises(ValueError, match="an absolute path"):
            broker_config(data=folder)


def test_only_the_broker_for_a_try_lets_everyone_in_and_only_from_this_machine():
    assert "allow_anonymous false" in broker_config()
    assert "listener 1999 127.0.0.1\n" in loopback_config(1999)
    assert "allow_anonymous true" in loopback_config(1999)
