"""What deploy/ and docs/deploy.md tell people to run: run where it can be, else read by the tools that will read it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from compose_spec import PyCompose
from ruamel.yaml import YAML

from bus.broker_address import BrokerAddress
from swarm.brokers.broker_config import acl
from swarm.cli import _parser
from swarm.hubs.hub_config import HubConfig
from tests.support.command import ROOT, clean_env
from tests.support.mqtt_client import PlainClient
from tests.support.shipped_broker import running

DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs/deploy.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMPOSE = YAML(typ="safe", pure=True).load((DEPLOY / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: one for name, one in SERVICES.items() if one["image"].startswith("eventswarm:")}


def check_command_line(words):
    """Let our own parser read a command line, `swarm` left out."""
    _parser().parse_args(words)


@pytest.mark.services
def test_the_commands_that_make_a_broker_run_as_they_stand_and_all_its_users_come_in(tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "swarm").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m swarm "$@"\n')
    (tools / "swarm").chmod(0o755)
    home = tmp_path / "home"
    home.mkdir()
    script = "".join(text for kind, text in BLOCKS if kind == "sh")
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=home, capture_output=True, text=True, check=False,
        env=clean_env(home, PATH=path, BROKER="localhost"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = home / "swarm-bus"
    config = folder / "mosquitto.conf"
    (folder / "data").mkdir()
    config.write_text(
        re.sub("(?m)^persistence_location .*", f"persistence_location {folder}/data/", config.read_text())
    )
    assert (folder / "passwords").stat().st_mode & 0o077 == 0
    with running(folder) as port:
        for user in ("hub", "client", "coder", "researcher"):
            password = home / "secrets" / user
            assert password.stat().st_mode & 0o077 == 0
            environ = {"SWARM_BUS_PASSWORD_FILE": str(password)}
            said = BrokerAddress.parse(f"mqtts://{user}@localhost:{port}?ca={folder}/ca.crt", environ)
            with PlainClient(port, said.user, said.password, host=said.host, ca=said.ca) as one:
                assert one.subscribe(f"swarm/v1/client/{user}/x/answer") == [1]


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "bash"])
def test_commands_of_the_page_that_need_more_than_this_machine_can_be_read(text):
    assert subprocess.run(["bash", "-n", "-c", text], capture_output=True, check=False).returncode == 0
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = shlex.split(re.split(r"[|>&] ", line)[0])
        if words[:1] == ["swarm"]:
            check_command_line(words[1:])
        if words[:2] == ["docker", "compose"]:
            assert (ROOT / words[words.index("-f") + 1]).is_file()
            assert set(words[words.index("up") :]) - {"up", "-d", "--build", "--no-deps"} <= set(SERVICES)
        if words[:2] == ["docker", "run"]:
            image = words.index("eventswarm:0.1.0")
            check_command_line(words[image + 1 :])
            assert {option for option in words if "=unconfined" in option} == unconfined(OURS["hub"])


def test_blocks_of_the_page_are_of_the_two_kinds():
    assert {kind for kind, _ in BLOCKS} == {"sh", "bash", "yaml"}


# The compose file


def unconfined(service):
    return {option for option in service["security_opt"] if option.endswith("=unconfined")}


def test_the_compose_file_is_one_by_its_specification():
    read = PyCompose.from_json(json.dumps(COMPOSE))  # as JSON, since it knows no merge keys; refuses unknown ones
    read.validate()
    assert set(read.service_names()) == set(SERVICES)


@pytest.mark.parametrize("name", OURS)
def test_each_command_line_of_the_compose_file_is_one_of_ours(name):
    words = OURS[name]["command"]
    check_command_line(words)
    address = BrokerAddress.parse(words[words.index("--bus") + 1], {})
    assert address.tls
    assert (address.host, address.port) == ("broker", 8883)
    assert {"source": "ca", "target": str(address.ca)} in OURS[name]["configs"]
    secret = Path(OURS[name]["environment"]["SWARM_BUS_PASSWORD_FILE"])
    assert secret == Path("/run/secrets", address.user)
    assert secret.name in OURS[name]["secrets"]


def test_the_compose_file_has_a_hub_with_postgresql_and_two_agents():
    hub = SERVICES["hub"]["command"]
    assert hub[hub.index("--log") + 1] == "postgresql://swarm@postgres/swarm"
    assert SERVICES["postgres"]["environment"]["POSTGRES_USER"] == "swarm"
    assert [name for name, one in OURS.items() if one["command"][0] == "attach"] == ["coder", "researcher"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_shut_in_and_names_only_what_is_there(name):
    service = SERVICES[name]
    assert re.fullmatch(r"[a-z/-]+:\d+\.\d+(\.\d+)?(-\w+)?", service["image"])
    assert not service.keys() & {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"}
    for secret in service.get("secrets", ()):
        assert (secret if isinstance(secret, str) else secret["source"]) in COMPOSE["secrets"]
    assert not re.search(r"(?i)password|key|token", " ".join(set(service.get("environment", {})) - FILES))
    for volume in service.get("volumes", ()):
        source = volume.partition(":")[0]
        assert source in COMPOSE["volumes"] or (DEPLOY / source).is_dir()
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    assert set(service.get("depends_on", ())) <= set(SERVICES)


FILES = {"SWARM_BUS_PASSWORD_FILE", "POSTGRES_PASSWORD_FILE"}


def test_only_what_runs_a_sandbox_is_given_room_for_one_and_no_rights_besides():
    for name, service in SERVICES.items():
        assert bool(unconfined({"security_opt": [], **service})) == (name in OURS)
    for service in OURS.values():
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]


def test_only_the_hub_reaches_the_log():
    assert [name for name, service in SERVICES.items() if "log" in service["networks"]] == ["postgres", "hub"]
    assert COMPOSE["networks"]["log"]["internal"]
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["broker"]


def test_every_secret_and_every_file_of_the_broker_is_made_by_the_page():
    for name in COMPOSE["secrets"]:
        made = f"deploy/secrets/{name}" in PAGE or re.search(rf"for user in [^;]*\b{name}\b", PAGE)
        assert made, name
        assert COMPOSE["secrets"][name]["file"] == f"./secrets/{name}"
    ignored = subprocess.run(
        ["git", "check-ignore", "deploy/secrets/hub", "deploy/mosquitto/broker.key", "deploy/mosquitto/passwords"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if shutil.which("git") and (ROOT / ".git").exists():
        assert len(ignored.stdout.splitlines()) == 3
    assert (DEPLOY / "mosquitto/acl").read_text() == acl(folder="/mosquitto/config")


# The image


def test_the_dockerfile_passes_its_linter():
    linter = Path(sys.executable).with_name("hadolint")
    linted = subprocess.run([linter, "--no-color", DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout


def test_the_image_is_pinned_holds_a_sandbox_and_runs_as_an_ordinary_user():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    bases = [line.split()[1] for line in lines if line.startswith("FROM")]
    assert len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", bases[0])
    assert not [line for line in lines if line.startswith("ADD")]
    assert any("bubblewrap" in line for line in lines if "install" in line)
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users[-1] == "10001:10001"
    assert "useradd --uid 10001" in "\n".join(lines)


def test_all_that_the_image_is_built_from_reaches_the_builder_and_nothing_else():
    copied = [
        source
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    ignored, *kept = [line for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[0] != "#"]
    assert ignored == "*"
    assert {line[1:] for line in kept if line[0] == "!"} == set(copied)
    assert not [source for source in copied if not (ROOT / source).exists()]


def test_the_configuration_of_a_hub_says_what_it_shows(tmp_path):
    (text,) = (text for kind, text in BLOCKS if kind == "yaml")
    (tmp_path / "hub.yaml").write_text(text)
    (tmp_path / "tools.py").write_text(
        'from swarm import tool\n\n\n@tool(effect="outward")\nasync def post_letter(to: str) -> str:\n'
        '    """Post a letter."""\n    return to\n'
    )
    (tmp_path / "editor.py").write_text(
        "from swarm import Context, ResultSubmitted, Role, SubtaskAssigned\n\n\n"
        "class Editor(Role[SubtaskAssigned, ResultSubmitted]):\n    name = 'editor'\n    handles = SubtaskAssigned\n"
    )
    config = HubConfig.load(tmp_path / "hub.yaml")
    assert not config.warnings
    assert config.roles["critic"].users == {"reviewers"}
    assert config.limits["parallel"] == 32
    assert [config.may_offer(user, "critic", own="hub") for user in ("hub", "reviewers", "client")] == [1, 1, 0]
