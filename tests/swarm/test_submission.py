"""A scenario on its way to a hub: what arrives, what is refused, and that nothing of it acts or is looked up there."""

import builtins
import copy
import functools
import json
import operator
import re
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agents.briefing import Offer
from bus.file_store import MemoryFileStore
from bus.pubsub import Bus
from bus.setup import Endpoint, FileRef, Limits, Permissions, Price, Setup
from swarm.cli import main
from swarm.commands.following import sender
from swarm.errors import ScenarioError, UsageError
from swarm.hubs.hub_config import HubConfig, HubRole
from swarm.hubs.unpacking import unpack
from swarm.scenario.model import RoleModel, Scenario
from swarm.submissions import client, packing
from swarm.submissions.client import Client
from swarm.submissions.packing import SUBMITTING, pack
from swarm.submissions.submission import MOST_FAULTS, Submission
from tests.support.events import JSON, TEXTS
from tests.support.wired import WiredTransport

GOOD = """
goal: Write report.md for ${{ inputs.company }}.
inputs: {company: {default: a bakery}}
workspace: ./material
model: lab:big
roles:
  researcher: {agents: 4, tools: [fetch_page, read_file]}
  coder: {prompt: ./prompts/coder.md, deadline: 5m}
  tester: {max_tokens: 2k}
  painter: {tools: [paint]}
accept: [{file: report.md}, {json: prices.json, schema: prices.schema.json}]
plan:
  - {id: facts, role: researcher, do: List every price.}
  - {id: test, role: tester, do: Test it., needs: [facts]}
  - {id: print, role: printer, do: Print it., needs: [test]}
limits: {time: 20m, tokens: 100k, parallel: 16}
permissions: {fetch: [example.org, "*.example.com"]}
outcome: report.md
"""
HUB = HubConfig(
    roles={"tester": HubRole("tests", tools=("count",), uses="/srv/tester.py:Tester", options={"style": "plain"})},
    endpoints={"lab": Endpoint(url="https://lab.example/v1", key="LAB_KEY")},
    prices={"lab": Price(input=1, output=2, cached=0)},
    model="lab:small",
    tools={"count": "/srv/tools.py:count"},
    permissions=Permissions(fetch=("example.org", "a.example.com"), private_hosts=("10.0.0.1:80",)),
    limits={"time_ms": 600_000, "tokens": 50_000, "parallel": 8, "subtasks": 20},
)
SHA = "0" * 64


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "coder.md").write_text("You code ${{ as written }}.")
    (tmp_path / "material" / ".git").mkdir(parents=True)
    (tmp_path / "material" / ".git" / "config").write_text("secret")
    (tmp_path / "material" / "a.txt").write_text("1 EUR")
    (tmp_path / "material" / "b.txt").write_text("1 EUR")
    (tmp_path / "prices.schema.json").write_text("{}")
    (tmp_path / "brief.yaml").write_text(GOOD)
    return tmp_path


def packed(folder, **options):
    scenario = Scenario.load(folder / "brief.yaml", around=SUBMITTING, **options)
    return pack(scenario, run="brief-1", client="alice/laptop", home=folder / ".swarm", models=["coder=lab:tiny"])


def sent(**changes):
    """Return a submission with a goal, and these changes of its scenario."""
    return Submission(run="r", written={"goal": "x"} | changes, client="alice/laptop")


def faults_of(submission, config=HUB, **options):
    with pytest.raises(ScenarioError) as caught:
        unpack(submission, config, folder=Path("/nowhere"), **options)
    return {one.field: one for one in caught.value.faults}


# What arrives


def test_a_schema_beside_the_scenario_arrives_with_it(folder):
    (folder / "s.json").write_text('{"required": ["price"]}')
    accept = [{"json": "a.json", "schema": "./s.json"}, {"json": "b.json", "schema": "s.json"}]
    plan = [{"id": "a", "role": "coder", "do": "x", "accept": accept}]
    written = {
        "goal": "Write theirs.json.",
        "accept": [*accept, {"json": "a.json", "schema": "theirs.json"}],
        "plan": plan,
    }
    scenario = Scenario.from_dict(written, folder=folder, around=SUBMITTING)
    submission, _ = pack(scenario, run="r", client="alice/laptop", home=folder / ".swarm")
    assert submission.texts == {"s.json": '{"required": ["price"]}'}
    arrived = unpack(submission, HUB, folder=Path("/nowhere")).scenario
    assert (arrived.accept, arrived.plan) == (scenario.accept, scenario.plan)
    assert [one["schema"] for one in arrived.accept] == [
        {"required": ["price"]},
        {"required": ["price"]},
        "theirs.json",
    ]


@pytest.mark.parametrize("text", ["{", "[]", '{"minumum": 3}', '{"a": ' * 40_000, "\ud800"])
def test_a_schema_of_no_use_is_refused_as_it_arrives(text):
    accept = [{"json": "a.json", "schema": "s.json"}]
    submission = Submission(run="r", written={"goal": "x", "accept": accept}, texts={"s.json": text}, client="alice/x")
    assert "accept.0.schema" in faults_of(submission)


def test_a_scenario_is_packed_with_its_texts_and_its_files_by_hash(folder):
    submission, places = packed(folder, inputs={"company": "a brewery"}, settings=["limits.tokens=90k"])
    assert submission.inputs == {"company": "a brewery"}
    assert submission.written["limits"]["tokens"] == "90k"
    assert submission.written["name"] == "brief"
    assert submission.texts == {"prompts/coder.md": "You code ${{ as written }}.", "prices.schema.json": "{}"}
    assert [one.path for one in submission.files] == ["material/a.txt", "material/b.txt"]
    assert {path.read_text() for path in places.values()} == {"1 EUR"}
    assert {*places} == {one.sha256 for one in submission.files}
    assert Submission.read(orjson.loads(orjson.dumps(submission.on_wire()))) == submission


@pytest.mark.parametrize("becomes", ["2 EUR", None])
async def test_a_file_that_changes_while_it_is_sent_is_told_and_nothing_of_it_sent(folder, becomes):
    submission, places = packed(folder)
    sha256 = submission.files[0].sha256
    store = MemoryFileStore()

    class Hub:
        def files(self, _hub, _run):
            return store

    send = sender(Hub(), places)
    await send("h1", "brief-1", sha256)
    assert {*store._files} == {sha256}
    places[sha256].unlink()
    if becomes:
        places[sha256].write_text(becomes)
    with pytest.raises(UsageError, match=re.escape(str(places[sha256])) + ".*submit again"):
        await send("h1", "brief-1", sha256)
    assert {*store._files} == {sha256}


def test_a_hub_runs_it_with_its_own_roles_and_endpoints_within_its_caps(folder):
    submission, _ = packed(folder)
    offered = {"painter": Offer("painter", "paints\npictures", ("paint", "run_command", "a b"))}
    unpacked = unpack(submission, HUB, folder=Path("/nowhere"), offered=offered)
    scenario = unpacked.scenario
    assert (scenario.name, scenario.goal) == ("brief", "Write report.md for a bakery.")
    assert (unpacked.elsewhere, unpacked.missing_roles) == (("painter", "printer"), ("researcher", "tester", "printer"))
    assert scenario.limits == Limits(time_ms=600_000, tokens=50_000, parallel=8, subtasks=20)
    assert scenario.permissions == Permissions(fetch=("example.org", "a.example.com"))
    assert (scenario.endpoints, scenario.prices, scenario.model) == (HUB.endpoints, HUB.prices, "lab:big")
    assert (scenario.workspace, scenario.file, scenario.outcome) == ((), None, ("report.md",))
    roles = scenario.roles
    assert roles["coder"].prompt == "You code ${{ as written }}."
    assert (roles["coder"].prompt_file, roles["coder"].deadline_ms, roles["coder"].agents) == (None, 300_000, 8)
    assert (roles["researcher"].agents, roles["researcher"].tools) == (4, ("fetch_page", "read_file"))
    tester, painter = roles["tester"], roles["painter"]
    assert (tester.uses, tester.options, tester.tools) == ("/srv/tester.py:Tester", {"style": "plain"}, ("count",))
    assert (tester.max_tokens, tester.deadline_ms, tester.about) == (2_000, 200_000, "tests")
    assert (painter.tools, painter.uses, roles["printer"].tools) == (("paint",), None, ())
    assert "\n" not in painter.about
    assert any("limits.tokens" in told for told in scenario.warnings)
    setup = scenario.resolve(dict.fromkeys(roles, RoleModel("lab:big")))
    assert Setup.model_validate_json(setup.model_dump_json()) == setup
    assert (setup.roles["tester"].about, setup.roles["tester"].price) == ("tests", HUB.prices["lab"])
    assert setup.written == submission.written


def test_what_a_scenario_leaves_out_is_the_hubs():
    config = replace(
        HUB,
        roles={
            "coder": HubRole(
                model="lab:coder", prompt="Ours.", agents=2, dialogue="json", window=8_000, tools=("read_file",)
            )
        },
    )
    scenario = unpack(sent(), config, folder=Path("/nowhere")).scenario
    coder = scenario.roles["coder"]
    assert (scenario.model, coder.model, coder.prompt, coder.agents) == ("lab:small", "lab:coder", "Ours.", 2)
    assert (coder.dialogue, coder.window, coder.tools) == ("json", 8_000, ("read_file",))
    said = {"coder": {"model": "lab:x", "prompt": "Mine.", "agents": 9, "dialogue": "native", "tools": ["run_command"]}}
    coder = unpack(sent(roles=said), config, folder=Path("/nowhere")).scenario.roles["coder"]
    assert (coder.model, coder.prompt, coder.agents) == ("lab:x", "Mine.", 8)
    assert (coder.dialogue, coder.tools) == ("native", ("run_command",))


def test_roles_that_agents_offer_are_there_for_the_planner_and_roles_that_nobody_names_are_not_waited_for():
    config = replace(HUB, roles={"painter": HubRole(model="lab:big")})
    offered = {
        "tester": Offer("tester", "tests", ("count",)),
        "../x": Offer("../x", "bad"),
        "coder": Offer("coder", ""),
    }
    unpacked = unpack(sent(), config, folder=Path("/nowhere"), offered=offered)
    assert (unpacked.elsewhere, unpacked.missing_roles) == (("tester",), ())
    assert unpacked.scenario.roles["tester"].tools == ("count",)
    assert "painter" not in unpacked.scenario.roles


@pytest.mark.parametrize(
    ("plan", "offered", "missing"),
    [
        (None, [], {"coder", "researcher"}),
        (None, ["planner", "critic"], {"coder", "researcher"}),
        (None, ["researcher"], set()),
        (["coder"], ["researcher"], {"coder"}),
        (["coder"], ["coder"], set()),
    ],
)
def test_a_role_of_ours_that_the_run_waits_for_since_nobody_offers_it_is_named(plan, offered, missing):
    changes = {"plan": [{"id": role, "role": role, "do": "x"} for role in plan]} if plan else {}
    unpacked = unpack(
        sent(**changes), HubConfig(), folder=Path("/nowhere"), offered={name: Offer(name, "") for name in offered}
    )
    assert set(unpacked.missing_roles) == missing


def test_an_agents_card_gives_its_role_no_tools_that_only_a_scenario_grants():
    offered = {"tester": Offer("tester", "", ("read_file", "run_command", "fetch_page"))}
    assert unpack(sent(), HUB, folder=Path("/nowhere"), offered=offered).scenario.roles["tester"].tools == ("count",)
    elsewhere = unpack(sent(), HubConfig(), folder=Path("/nowhere"), offered=offered)
    assert elsewhere.scenario.roles["tester"].tools == ("read_file",)
    granted = sent(roles={"tester": {"tools": ["run_command"]}})
    granted_roles = unpack(granted, HubConfig(), folder=Path("/nowhere"), offered=offered).scenario.roles
    assert granted_roles["tester"].tools == ("run_command",)


# What is refused

REFUSED = [
    ({"roles": {"a": {"uses": "./a.py:A"}}}, "roles.a.uses", "brings no code"),
    ({"roles": {"coder": {"uses": "os:system"}}}, "roles.coder.uses", "brings no code"),
    ({"roles": {"tester": {"with": {"style": "x"}}}}, "roles.tester.with", "no say in"),
    ({"roles": {"coder": {"tools": ["read_file", "./a.py:a"]}}}, "roles.coder.tools.1", "is code"),
    ({"roles": {"coder": {"tools": ["os:system"]}}}, "roles.coder.tools.0", "is code"),
    ({"roles": {"coder": {"tools": ["/etc/x.py"]}}}, "roles.coder.tools.0", "is code"),
    ({"roles": {"coder": {"tools": ["nonesuch"]}}}, "roles.coder.tools.0", "is unknown"),
    ({"roles": {"tester": {"tools": ["nonesuch"]}}}, "roles.tester.tools.0", "is unknown"),
    ({"roles": {"new": {"tools": ["a b"]}}}, "roles.new.tools.0", "is unknown"),
    ({"roles": {"coder": {"prompt": "/etc/passwd"}}}, "roles.coder.prompt", "no path within"),
    ({"roles": {"coder": {"prompt": "../secret.md"}}}, "roles.coder.prompt", "leads out"),
    ({"roles": {"coder": {"prompt": "./a/../../secret.md"}}}, "roles.coder.prompt", "leads out"),
    ({"roles": {"coder": {"prompt": "./not-sent.md"}}}, "roles.coder.prompt", "was not sent along"),
    ({"roles": {"coder": {"model": "scripted:/etc/passwd"}}}, "roles.coder.model", "is a file"),
    ({"model": "recorded:x.jsonl"}, "model", "is a file"),
    ({"model": "local:/srv/x.gguf"}, "model", "is a file"),
    ({"model": "local:x.gguf"}, "model", "is a file"),
    ({"model": "nobody:x"}, "model", "has no models"),
    ({"mcp": {"mcpServers": {"x": {"command": "sh"}}}}, "mcp", "brings no servers"),
    ({"endpoints": {"x": {"url": "https://evil.example", "key": "LAB_KEY"}}}, "endpoints", "brings no endpoints"),
    ({"endpoints": {"lab": {"url": "https://evil.example"}}}, "endpoints", "brings no endpoints"),
    ({"sandbox": {"python": "/tmp/python"}}, "sandbox.python", "the hub's choice"),
    ({"permissions": {"private_hosts": ["10.0.0.1:80", "10.0.0.2:80"]}}, "permissions.private_hosts", "'10.0.0.2:80'"),
    ({"permissions": {"sandbox": ["pypi.org"]}}, "permissions.sandbox", "not among the hosts"),
    ({"workspace": "/etc"}, "workspace", "no path within"),
    ({"workspace": ["a", "b/../../c"]}, "workspace", "leads out"),
    ({"workspace": "~/x"}, "workspace", "no path within"),
    ({"outcome": "/etc/*"}, "outcome.0", "leads out"),
    ({"outcome": ["../x"]}, "outcome.0", "leads out"),
    ({"accept": [{"file": "/etc/passwd"}]}, "accept.0.file", "may not be used"),
    ({"accept": [{"json": "a.json", "schema": "../s.json"}]}, "accept.0.schema", "may not be used"),
    (
        {"plan": [{"id": "a", "role": "coder", "do": "x", "accept": [{"text": "/a"}]}]},
        "plan.0.accept.0.text",
        "may not",
    ),
    ({"plan": [{"id": "a", "role": "no slug", "do": "x"}]}, "plan.0.role", "is unknown"),
    (
        {"plan": [{"id": f"s{i}", "role": "coder", "do": "x"} for i in range(21)]},
        "plan",
        "more than this hub allows (20)",
    ),
    ({"goal": "use ${{ env.LAB_KEY }}"}, "goal", "goes only to a process"),
    ({"accept": [{"run": "echo ${{ env.LAB_KEY }}"}]}, "accept.0.run", "goes only to a process"),
    ({"memory": {"collection": "x"}}, "memory", "not in this version"),
    ({"limits": {"tokens": 10**30}}, "limits.tokens", "is no count"),
    ({"name": "../../x"}, "name", "is no name"),
    ({"surprise": 1}, "surprise", "unknown key"),
]


@pytest.mark.parametrize(
    ("changes", "field", "told"), REFUSED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_what_is_refused_is_named_with_its_reason(changes, field, told):
    found = faults_of(sent(**changes))
    assert told in found[field].message, found


def test_what_a_hub_does_not_know_is_not_to_be_brought_by_a_submission_that_may_not_bring_it():
    found = faults_of(sent(model="nobody:x", roles={"coder": {"tools": ["post_letter"]}}))
    assert found["model"].hint == "Name a model of an endpoint that the hub has."
    assert found["roles.coder.tools.0"].hint == "Name one that the hub or the role's agents have."


def test_what_lies_outside_by_a_link_is_not_sent(tmp_path):
    folder = tmp_path / "stranger"
    folder.mkdir()
    (tmp_path / "private").mkdir()
    (folder / "material").symlink_to(tmp_path / "private")
    scenario = Scenario.from_dict({"goal": "x", "workspace": "./material"}, folder=folder, around=SUBMITTING)
    with pytest.raises(ScenarioError, match="outside of the scenario's folder"):
        pack(scenario, run="brief-1", client="alice/laptop", home=folder / ".swarm")


def test_an_input_does_not_become_what_is_refused():
    found = faults_of(
        Submission(
            run="r",
            client="a/b",
            inputs={"tool": "./evil.py:x", "path": "/etc/passwd", "model": "scripted:/etc/passwd", "up": ".."},
            written={
                "goal": "x",
                "inputs": {"tool": {}, "path": {}, "model": {}, "up": {}},
                "workspace": ["${{ inputs.path }}", "a/${{ inputs.up }}/b"],
                "model": "${{ inputs.model }}",
                "roles": {"coder": {"tools": ["${{ inputs.tool }}"], "prompt": "${{ inputs.path }}"}},
            },
        )
    )
    assert {name: one.kind for name, one in found.items()} == dict.fromkeys(
        ["workspace", "model", "roles.coder.tools.0", "roles.coder.prompt"], "refused"
    )


def test_an_input_may_say_anything():
    submission = Submission(
        run="r", client="a/b", inputs={"text": "${{ env.HOME }} ./x.py:y"},
        written={"goal": "About ${{ inputs.text }}", "inputs": {"text": {}}},
    )  # fmt: skip
    assert unpack(submission, HUB, folder=Path("/nowhere")).scenario.goal == "About ${{ env.HOME }} ./x.py:y"


def test_a_text_that_was_sent_is_never_read_as_the_path_of_another():
    submission = Submission(
        run="r",
        client="a/b",
        texts={"a.md": "/etc/passwd"},
        written={"goal": "x", "roles": {"coder": {"prompt": "./a.md"}}},
    )
    assert unpack(submission, HUB, folder=Path("/nowhere")).scenario.roles["coder"].prompt == "/etc/passwd"


def test_every_fault_is_found_in_one_go():
    submission = Submission(
        run="a/b",
        client="nobody",
        written={"goal": 5, "roles": {"x": {"uses": "a:b"}}, "endpoints": {}, "plan": [{"id": "a", "role": "coder"}]},
        models=("coder=scripted:/x", "good:x", "bad"),
        texts={"/etc/x": ""},
        files=(FileRef(path="../x", sha256=SHA, bytes=1),),
    )
    assert {*faults_of(submission)} == {
        *("run", "client", "goal", "roles.x.uses", "endpoints", "plan.0.do", "models.0", "models.2", "texts", "files.0")
    }


@pytest.mark.parametrize("run", ["", "a b", "a/b", "+", "#", "ä", "a\n", "x" * 129, ".."])
def test_a_runs_id_is_one_that_may_stand_in_a_topic(run):
    assert "run" in faults_of(sent().model_copy(update={"run": run}))


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ([("/etc/x", SHA, 1)], "absolute"),
        ([("a/../b", SHA, 1)], "leads out"),
        ([("a//b", SHA, 1)], "is empty or '.'"),
        ([("./a", SHA, 1)], "is empty or '.'"),
        ([("a/" * 64 + "b", SHA, 1)], "at most 64 parts"),
        ([("", SHA, 1)], "empty"),
        ([("a\\b", SHA, 1)], "holds"),
        ([("a\nb", SHA, 1)], "control character"),
        ([("a\u202eb", SHA, 1)], "invisible"),
        ([(".git/hooks/x", SHA, 1)], "never part"),
        ([("x/.env.local", SHA, 1)], "never part"),
        ([("a", SHA, 1), ("a", SHA, 1)], "twice"),
        ([("a", SHA, 1), ("a/b/c", SHA, 1)], "cannot lie beside 'a'"),
        ([("a.md", SHA, 1), ("A.md", SHA, 1)], "cannot lie beside 'a.md'"),
        ([("e\u0301.md", SHA, 1)], "NFC"),
        ([("x/__pycache__/a.py", SHA, 1)], "never part"),
        ([("a", "0" * 63, 1)], "SHA-256"),
        ([("a", "A" * 64, 1)], "SHA-256"),
        ([("a", SHA, -1)], "fewer bytes"),
        ([("a", SHA, 257 << 20)], "larger than"),
        ([("a", SHA, -(1 << 40)), ("b", SHA, 257 << 20)], "larger than"),
        ([(f"f{i}", SHA, 0) for i in range(10_001)], "larger than"),
    ],
)
def test_a_file_that_no_workspace_has_is_refused(files, told):
    refs = tuple(FileRef(path=path, sha256=sha, bytes=size) for path, sha, size in files)
    assert any(told in one.message for one in faults_of(sent().model_copy(update={"files": refs})).values())


def test_files_are_looked_through_beside_the_connection_that_the_broker_is_to_see_alive(folder, monkeypatch, capsys):
    threads = []

    def looked_through(*given, **named):
        threads.append(threading.current_thread())
        return pack(*given, **named)

    class Submits(Client):
        async def submit(self, *_):
            return "h1", ()

    @asynccontextmanager
    async def client_on(*_, **__):
        async with WiredTransport() as transport:
            yield Submits(Bus(transport), "ann/cli-1")

    monkeypatch.setattr(packing, "pack", looked_through)
    monkeypatch.setattr(client, "client_on", client_on)
    monkeypatch.chdir(folder)
    assert main(["submit", "brief.yaml", "--bus", "mqtt://127.0.0.1", "--quiet"]) == 0
    assert capsys.readouterr().out
    assert threads != []
    assert threading.main_thread() not in threads


def test_what_is_too_large_is_refused():
    assert "written" in faults_of(sent(description="x" * (1 << 20)))
    assert "texts" in faults_of(sent().model_copy(update={"texts": {"a": "x" * (1 << 20)}}))
    with pytest.raises(ScenarioError, match="at most 6,291,456 bytes"):
        Submission.read({"run": "x" * (7 << 20)})


def test_of_a_submission_with_many_faults_the_first_are_told() -> None:
    with pytest.raises(ScenarioError) as caught:
        Submission.read({"run": "r", "written": {}, "files": [{}] * 1_000})
    assert len(caught.value.faults) == MOST_FAULTS
    assert caught.value.faults[0].field == "files.0.path"


def test_who_is_not_named_may_not_submit():
    config = replace(HUB, users=frozenset({"bob"}))
    with pytest.raises(UsageError, match="'alice' may not submit"):
        unpack(sent(), config, folder=Path("/nowhere"))
    assert unpack(sent().model_copy(update={"client": "bob/1"}), config, folder=Path("/nowhere"))


@pytest.mark.parametrize(
    "value", [None, [], 3, "x", {}, {"run": 1}, {"run": "r", "written": []}, {"run": "r", "written": {}, "x": 1}]
)
def test_what_is_no_submission_is_said(value):
    with pytest.raises(ScenarioError):
        Submission.read(value)


# Where it is submitted


def test_what_no_hub_takes_is_said_before_anything_is_sent_with_its_line(folder):
    (folder / "brief.yaml").write_text("goal: x\nroles:\n  mine: {uses: ./mine.py:Mine}\nworkspace: ../other\n")
    with pytest.raises(ScenarioError) as caught:
        Scenario.load(folder / "brief.yaml", around=SUBMITTING)
    assert [(one.line, one.field, one.kind) for one in caught.value.faults] == [
        (3, "roles.mine.uses", "refused"),
        (4, "workspace", "refused"),
    ]


def test_a_scenario_that_was_checked_to_run_here_is_checked_again_as_it_is_packed(folder):
    (folder / "mine.py").write_text("class Mine:\n    tools = ()\n")
    scenario = Scenario.from_dict({"goal": "x", "roles": {"mine": {"uses": "./mine.py:Mine"}}}, folder=folder)
    with pytest.raises(ScenarioError, match=r"roles\.mine\.uses: a submission brings no code"):
        pack(scenario, run="r", client="a/b", home=folder / ".swarm")
    with pytest.raises(ScenarioError, match="cannot stand in a topic"):
        pack(Scenario.from_dict({"goal": "x"}, folder=folder), run="a/b", client="a/b", home=folder)


def test_what_is_run_here_is_checked_as_strictly_as_ever(folder):
    with pytest.raises(ScenarioError) as caught:
        Scenario.load(folder / "brief.yaml")
    assert {"roles.tester", "roles.painter", "roles.painter.tools.0", "plan.2.role", "model"} <= {
        one.field for one in caught.value.faults
    }


# Whatever comes

# fmt: off
KEYS = st.sampled_from([
    "goal", "name", "inputs", "workspace", "model", "endpoints", "roles", "accept", "plan", "limits", "permissions",
    "sandbox", "outcome", "mcp", "memory", "description", "uses", "tools", "prompt", "coder", "with", "id", "role",
    "do", "needs", "file", "text", "run", "ask", "json", "schema", "private_hosts", "fetch", "python", "use", "tokens",
])
HOSTILE = st.sampled_from([
    "/etc/passwd", "../x", "./x.py:X", "os:system", "scripted:/etc/passwd", "${{ inputs.a }}", "${{ env.HOME }}", "\0",
    "local:/x.gguf", "coder", "planner", "read_file", "public", "re:(a+)+$", "10.0.0.1:80", "~", "a" * 300, "5m", "🂡",
])
# fmt: on
WRITTEN = st.recursive(
    JSON | HOSTILE | st.integers(-(2**70), 2**70),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | TEXTS, inner, max_size=5),
    max_leaves=20,
)
BASE = {
    "goal": "Write ${{ inputs.a }}.",
    "name": "brief",
    "inputs": {"a": {"default": "x"}, "b": {"default": "y"}},
    "workspace": ["a", "b"],
    "model": "lab:big",
    "roles": {"coder": {"prompt": "./a.md", "tools": ["read_file"], "model": "lab:x"}, "tester": {"tools": ["count"]}},
    "accept": [{"file": "a.md"}, {"json": "a.json", "schema": "b.json"}, {"run": "true"}],
    "plan": [{"id": "a", "role": "coder", "do": "x"}, {"id": "b", "role": "new", "do": "y", "needs": ["a"]}],
    "limits": {"tokens": "10k", "time": "5m"},
    "permissions": {"fetch": ["example.org"], "private_hosts": ["10.0.0.1:80"]},
    "outcome": ["a.md"],
    "sandbox": {"use": "bwrap"},
}
NOT_REFUSED = {"run": "r", "client": "a/b", "texts": {"a.md": "You code."}}


def places(value, path=()):
    """Yield the path of each part of a value."""
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(part, (*path, key))


PLACES = st.sampled_from([*places(BASE)])


@st.composite
def changed(draw):
    """Return a scenario that a hub takes, with a few of its texts replaced, and now and then something else."""
    whole = copy.deepcopy(BASE)
    for path in sorted(draw(st.lists(PLACES, max_size=3, unique=True)), key=len, reverse=True):  # parts before wholes
        place = functools.reduce(operator.getitem, path[:-1], whole)
        now = place[path[-1]]
        place[path[-1]] = draw(HOSTILE if isinstance(now, str) else st.just(now) | WRITTEN)
    return whole


SUBMISSIONS = st.builds(lambda written: {**NOT_REFUSED, "written": written}, changed()) | st.fixed_dictionaries(
    {
        "run": st.just("r") | TEXTS,
        "written": st.dictionaries(KEYS, WRITTEN, max_size=8),
        "client": st.just("a/b") | TEXTS,
    },
    optional={
        "inputs": st.dictionaries(st.sampled_from(["a", "b", "B"]), HOSTILE | TEXTS, max_size=2),
        "models": st.lists(HOSTILE | TEXTS, max_size=3),
        "texts": st.dictionaries(HOSTILE | TEXTS, TEXTS, max_size=2),
        "files": st.lists(
            st.fixed_dictionaries({"path": HOSTILE | TEXTS, "sha256": st.just(SHA) | TEXTS, "bytes": st.integers()}),
            max_size=3,
        ),
    },
)


@pytest.fixture
def no_disk(monkeypatch):
    """Fail where anything opens a file or looks whether one is there."""
    opened, looked = builtins.open, Path.stat

    def guarded_open(file, *args, **kwargs):
        if str(file).startswith(("/etc", "/nowhere", "/srv")):
            raise AssertionError(f"a submission had {file} opened")
        return opened(file, *args, **kwargs)

    def guarded_stat(self, **kwargs):
        if str(self).startswith(("/etc", "/nowhere", "/srv")):
            raise AssertionError(f"a submission had {self} looked at")
        return looked(self, **kwargs)

    monkeypatch.setattr(builtins, "open", guarded_open)
    monkeypatch.setattr("io.open", guarded_open)
    monkeypatch.setattr(Path, "stat", guarded_stat)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(SUBMISSIONS | WRITTEN)
@example({"run": "r", "written": {"goal": "x", "workspace": "/etc/passwd"}, "client": "a/b"})
@example({"run": "r", "written": {"goal": "x", "roles": {"coder": {"uses": "/etc/passwd:x"}}}, "client": "a/b"})
@pytest.mark.usefixtures("no_disk")
def test_whatever_is_submitted_is_run_within_bounds_or_refused_with_reasons(value):
    try:
        scenario = unpack(Submission.read(value), HUB, folder=Path("/nowhere")).scenario
    except (ScenarioError, UsageError) as refused:
        assert str(refused)  # noqa: PT017 - either is right
        return
    assert {role.uses for role in scenario.roles.values()} <= {None, "/srv/tester.py:Tester"}
    assert scenario.endpoints == HUB.endpoints
    assert scenario.limits.tokens <= 50_000
    assert {*scenario.permissions.private_hosts} <= {"10.0.0.1:80"}
    assert scenario.python is None
    assert not any(":" in tool or "/" in tool for role in scenario.roles.values() for tool in role.tools or ())
    models = [scenario.model, *(role.model for role in scenario.roles.values())]
    assert not any((model or "").startswith(("scripted:", "recorded:", "local:/")) for model in models)
    json.dumps(scenario.written)


def deep(levels):
    value = {"goal": "x"}
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        deep(5_000),
        {"run": "r", "client": "a/b", "written": deep(100)},
        {
            "run": "r",
            "client": "a/b",
            "written": {"goal": "x", "plan": [{"id": str(i), "role": "x", "do": "y"} for i in range(9_000)]},
        },
        {"run": "r", "client": "a/b", "written": {"goal": "x", "roles": {"coder": {"tools": ["a:b"] * 19_000}}}},
        {
            "run": "r",
            "client": "a/b",
            "written": {"goal": "x", "roles": {f"r{i}": {"uses": "a:b"} for i in range(9_000)}},
        },
        {"run": "r", "client": "a/b", "written": {"goal": "x", "workspace": ["/etc"] * 19_000}},
        {
            "run": "r",
            "client": "a/b",
            "written": {"goal": "${{ inputs.a }}" * 60_000, "inputs": {"a": {"default": "x" * 9_999}}},
        },
        {
            "run": "r",
            "client": "a/b",
            "written": {"goal": "x"},
            "files": [{"path": "a/" * 2_000 + str(i), "sha256": SHA, "bytes": 1} for i in range(1_300)],
        },
    ],
    ids=[
        "deep",
        "too deep",
        "a long plan",
        "many tools",
        "many roles",
        "many paths",
        "a goal that grows",
        "deep files",
    ],
)
def test_a_submission_made_to_cost_time_costs_little(value):
    began = time.process_time()
    with pytest.raises(ScenarioError):
        unpack(Submission.read(value), HubConfig(limits={"subtasks": 10}), folder=Path("/nowhere"))
    assert time.process_time() - began < 10


def test_the_scenario_that_is_changed_at_random_is_good_without_changes():
    unpacked = unpack(Submission.read({**NOT_REFUSED, "written": BASE}), HUB, folder=Path("/nowhere"))
    assert unpacked.missing_roles == ("coder", "new")
