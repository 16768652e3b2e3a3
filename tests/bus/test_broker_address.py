"""Addresses of brokers: what is understood, and that no password is ever shown."""

import traceback
from pathlib import Path

import pytest

from bus.broker_address import BrokerAddress, redacted
from bus.errors import BadAddress

SECRET = "geheim/@:x"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://host", BrokerAddress("host", 1883)),
        ("mqtts://host", BrokerAddress("host", 8883, tls=True)),
        ("mqtt://ada@host:99/", BrokerAddress("host", 99, user="ada")),
        ("mqtt://ada:p%40ss@host", BrokerAddress("host", 1883, user="ada", password="p@ss")),
        ("mqtt://[::1]:99", BrokerAddress("::1", 99)),
        ("mqtts://host?ca=/a/ca.crt", BrokerAddress("host", 8883, tls=True, ca=Path("/a/ca.crt"))),
        (
            "mqtts://host?ca=ca&cert=c&key=k",
            BrokerAddress("host", 8883, tls=True, ca=Path("ca"), cert=Path("c"), key=Path("k")),
        ),
    ],
)
def test_an_address_says_where_and_who(url, expected):
    assert BrokerAddress.parse(url, {}) == expected


def test_the_environment_says_who_we_are(tmp_path):
    environ = {"SWARM_BUS_USER": "ada", "SWARM_BUS_PASSWORD": SECRET}
    found = BrokerAddress.parse("mqtt://host", environ)
    assert (found.user, found.password) == ("ada", SECRET)
    assert BrokerAddress.parse("mqtt://bob@host", environ).user == "bob"
    (file := tmp_path / "password").write_text(f"{SECRET}\n")
    found = BrokerAddress.parse("mqtt://ada@host", {"SWARM_BUS_PASSWORD_FILE": str(file)})
    assert found.password == SECRET


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "no address of a broker; write mqtt://"),
        ("host:1883", "no address of a broker"),
        ("http://host", "no address of a broker"),
        ("mqtt://", "no address of a broker"),
        ("mqtt://host/topic", "no address of a broker"),
        ("mqtt://host:port", "the port is not one"),
        ("mqtt://host:99999", "the port is not one"),
        ("mqtt://host:0", "the port is not one"),
        ("mqtt://a..b", "no address of a broker"),
        (f"mqtts://{'a' * 64}.org", "no address of a broker"),
        ("mqtt://[::1", "no address of a broker"),
        ("mqtt://host?ca=x", "certificates are for mqtts://"),
        ("mqtts://host?cafile=x", "'cafile' is no option"),
        ("mqtts://host?cert=x", "'cert' and 'key' go together"),
        ("mqtt://:pass@host", "no user; name one in SWARM_BUS_USER"),
    ],
)
def test_a_bad_address_is_refused_with_what_to_write(url, told):
    with pytest.raises(BadAddress, match=told):
        BrokerAddress.parse(url, {})


def test_a_password_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(BadAddress, match=r"SWARM_BUS_PASSWORD_FILE=.*none cannot be read: No such file"):
        BrokerAddress.parse("mqtt://ada@host", {"SWARM_BUS_PASSWORD_FILE": str(tmp_path / "none")})
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(BadAddress, match="not text"):
        BrokerAddress.parse("mqtt://ada@host", {"SWARM_BUS_PASSWORD_FILE": str(tmp_path / "binary")})


def test_a_certificate_that_cannot_be_used_is_named(tmp_path):
    with pytest.raises(BadAddress, match=r"cannot be used \(.*ca\.crt\): .*No such file"):
        BrokerAddress.parse(f"mqtts://host?ca={tmp_path}/ca.crt", {}).tls_context()
    (tmp_path / "ca.crt").write_text("nothing")
    with pytest.raises(BadAddress, match="cannot be used"):
        BrokerAddress.parse(f"mqtts://host?ca={tmp_path}/ca.crt", {}).tls_context()
    assert BrokerAddress.parse("mqtt://host", {}).tls_context() is None


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://ada:hunter2@host",
        "mqtt://ada:hunter2@host:port",
        "mqtt://ada:hunter2@[::1",
        "mqtt://ada:x@hunter2@host/y",
        "mqtt://ada:hunter2/x@host",
        "mqtt://ada:hunter2",
        "http://ada:hunter2@host",
        "ada:hunter2@host",
        "mqtt://ada:hunter2#@host",
        "mqtts://ada:hunter2@host?ca=/nowhere",
    ],
)
def test_no_password_is_ever_shown(url):
    assert "hunter2" not in redacted(url)
    assert "hunter2" not in told_of(url)


def told_of(url):
    try:
        found = BrokerAddress.parse(url, {})
        found.tls_context()
    except BadAddress as error:
        return "".join(traceback.format_exception(error, limit=0))
    return f"{found} {found!r}"


def test_an_address_is_shown_as_it_is_written():
    assert str(BrokerAddress.parse("mqtt://ada:secret@host", {})) == "mqtt://ada@host:1883"
    assert str(BrokerAddress.parse("mqtts://[::1]", {})) == "mqtts://[::1]:8883"


@pytest.mark.parametrize(
    ("url", "guarded"),
    [
        ("mqtt://127.0.0.1", True),
        ("mqtt://localhost", True),
        ("mqtt://ada@host", False),
        ("mqtts://host", False),
        ("mqtts://ada@host", True),
        ("mqtts://host?cert=c&key=k", True),
    ],
)
def test_what_is_open_to_others_is_known(url, guarded):
    assert BrokerAddress.parse(url, {}).guarded is guarded
