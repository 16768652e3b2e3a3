"""`swarm broker`: for this machine alone, said so, ended with Ctrl-C; and what it says where it cannot run."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from swarm.brokers import quick_broker
from swarm.brokers.broker_config import MOST_BYTES
from swarm.errors import MissingPart
from tests.support.command import clean_env
from tests.support.mqtt_client import PlainClient
from tests.support.shipped_broker import free_port

# Where tests run in the background of a shell, what they start would else not hear of Ctrl-C.
PROGRAM = """
import signal, sys
from swarm.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main())
"""


def command(*words, **env):
    command = [sys.executable, "-c", PROGRAM, "broker", *words]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_env(Path.cwd(), **env)
    )


@contextmanager
def quick():
    """Run it, and yield its process, its port and the first line of what it says of itself."""
    port = free_port()
    with command("--port", str(port)) as process:
        try:
            assert process.stdout.readline() == f"mqtt://127.0.0.1:{port}\n", process.stderr.read()
            yield process, port, process.stderr.readline()
        finally:
            process.kill()


def ended(*words, **env):
    process = command(*words, **env)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def listeners(port):
    """The addresses on which somebody listens at a port, as the kernel writes them."""
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    return [line[1].partition(":")[0] for line in lines if line[3] == "0A" and line[1].endswith(f":{port:04X}")]


@pytest.mark.services
def test_it_carries_messages_and_only_for_this_machine():
    with quick() as (_, port, told):
        assert "mosquitto 2" in told
        assert "for this machine alone" in told
        assert listeners(port) == ["0100007F"]
        with PlainClient(port) as one, PlainClient(port) as other:
            other.subscribe("swarm/v1/#")
            for number in range(2_000):
                one.publish("swarm/v1/run/r/outcome", b"%d" % number)
            other.wait(lambda: len(other.got) >= 2_000)
            assert [int(message.payload) for message in other.got] == list(range(2_000))


@pytest.mark.services
def test_a_packet_above_the_limit_ends_only_the_connection_of_who_sent_it():
    with quick() as (_, port, _), PlainClient(port) as one, PlainClient(port) as other:
        other.subscribe("a")
        one.send("a", b"x" * MOST_BYTES)
        one.wait(lambda: one.ended)
        other.publish("a", b"still here")
        other.wait(lambda: other.got)
        assert other.got[0].payload == b"still here"


@pytest.mark.services
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_broker_ends_with_it(how):
    with quick() as (process, port, _), PlainClient(port) as client:
        process.send_signal(how)
        client.wait(lambda: client.ended)
        process.wait(20)
        assert process.returncode == (130 if how is signal.SIGINT else -how)


@pytest.mark.services
def test_it_says_so_when_the_broker_ends_first():
    with quick() as (process, _, _):
        for broker in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):  # others' processes come and go
                words = broker.read_bytes().split(b"\0")
                parent = (broker.parent / "stat").read_text().rsplit(")", 1)[1].split()[1]
                grandparent = Path(f"/proc/{parent}/stat").read_text().rsplit(")", 1)[1].split()[1]
                if words[1:3] == [b"-c", b"/dev/stdin"] and grandparent == str(process.pid):
                    os.kill(int(broker.parent.name), signal.SIGKILL)
        assert process.wait(20) == 3
        assert "the broker ended by itself" in process.stderr.read()


@pytest.mark.services
def test_a_port_that_is_taken_is_named_with_what_to_do():
    with quick() as (_, port, _):
        status, out, err = ended("--port", str(port))
    assert (status, out) == (3, "")
    assert f"port {port} of 127.0.0.1 cannot be used: Address already in use" in err
    assert "--port" in err


def test_where_there_is_no_mosquitto_it_says_how_to_get_one(monkeypatch):
    monkeypatch.setattr(quick_broker.shutil, "which", lambda *_, **__: None)
    with pytest.raises(MissingPart, match="apt-get install mosquitto"):
        quick_broker.find_program()


def test_a_mosquitto_that_does_not_come_up_is_quoted(tmp_path):
    fake = tmp_path / "mosquitto"
    fake.write_text("#!/bin/sh\necho '1700000000: Error: Unknown configuration variable' >&2\nexit 3\n")
    fake.chmod(0o755)
    status, out, err = ended("--port", str(free_port()), PATH=f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert (status, out) == (3, "")
    assert "did not come up: Error: Unknown configuration variable" in err


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", "٣"])
def test_what_is_no_port_is_refused(port):
    status, _, err = ended(f"--port={port}")
    assert status == 2
    assert "is no port" in err
