"""What a hub brings and allows, read from its file."""

from dataclasses import fields

import pytest

from bus.setup import Endpoint, Permissions, Price
from swarm.errors import ScenarioError
from swarm.hubs.hub_config import SECTIONS, HubConfig, HubRole, HubRoleSection
from swarm.scenario.file import Section

GOOD = """
roles:
  tester: {uses: ./tester.py:Tester, with: {style: plain}, about: tests what others wrote, tools: [read_file, count]}
  coder: {model: "lab:big", prompt: ./coder.md, agents: 2, deadline: 5m, max_tokens: 2k, window: 16k, dialogue: json}
  painter: {model: "lab:big"}
endpoints:
  lab: {url: "https://lab.example/v1", key: LAB_KEY, price: {input: 0.10, output: 0.40}}
model: scripted:answers.yaml
tools: {count: ./my_tools.py:count}
permissions: {fetch: [example.org], private_hosts: ["127.0.0.1:8080"]}
limits: {time: 10m, tokens: 50k, money: 0.50 USD, parallel: 4}
users: [alice, bob]
"""
TOOLS = """
from swarm import tool

raise SystemExit("this is never run by reading a configuration")

@tool(effect="reads")
async def count(path: str) -> int: ...

@tool()
async def undeclared(path: str) -> int: ...
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "coder.md").write_text("You code.")
    (tmp_path / "my_tools.py").write_text(TOOLS)
    (tmp_path / "tester.py").write_text("class Tester:\n    tools = ()\n")
    (tmp_path / "answers.yaml").write_text("[]")
    (tmp_path / "hub.yaml").write_text(GOOD)
    return tmp_path


def faults_of(text, folder):
    (folder / "bad.yaml").write_text(text)
    with pytest.raises(ScenarioError) as caught:
        HubConfig.load(folder / "bad.yaml")
    return {(one.line, one.field): one for one in caught.value.faults}


def test_a_configuration_of_every_key(folder):
    config = HubConfig.load(folder / "hub.yaml")
    assert config == HubConfig(
        folder=folder,
        roles={
            "tester": HubRole(
                "tests what others wrote",
                tools=("read_file", "count"),
                uses=f"{folder}/tester.py:Tester",
                options={"style": "plain"},
            ),
            "coder": HubRole(
                model="lab:big",
                agents=2,
                deadline_ms=300_000,
                max_tokens=2_000,
                window=16_000,
                dialogue="json",
                prompt="You code.",
            ),
            "painter": HubRole(model="lab:big"),
        },
        endpoints={"lab": Endpoint(url="https://lab.example/v1", key="LAB_KEY")},
        prices={"lab": Price(input=100_000, output=400_000, cached=100_000)},
        model=f"scripted:{folder}/answers.yaml",
        tools={"count": f"{folder}/my_tools.py:count"},
        permissions=Permissions(fetch=("example.org",), private_hosts=("127.0.0.1:8080",)),
        limits={"time_ms": 600_000, "tokens": 50_000, "money": 500_000_000_000, "parallel": 4},
        users=frozenset({"alice", "bob"}),
    )
    assert config.may_submit("alice")
    assert not config.may_submit("mallory")


def test_no_key_of_a_role_is_dropped():
    kept = {"deadline" if one.name == "deadline_ms" else one.name for one in fields(HubRole)}
    assert kept == set(HubRoleSection.model_fields)


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}"])
def test_an_empty_file_brings_nothing_and_lets_everybody_submit(folder, text):
    (folder / "empty.yaml").write_text(text)
    assert HubConfig.load(folder / "empty.yaml") == HubConfig()
    assert HubConfig().may_submit("anybody")
    assert HubConfig().permissions == Permissions()


def test_every_fault_is_found_in_one_go_with_its_line(folder):
    found = faults_of(
        """\
roles:
  tester: {uses: ./nothing.py:Tester}
  coder: {tools: [read_fil, ./my_tools.py:count], model: nobody:x}
  Bad Name: {}
endpoints:
  openai: {url: "https://x.org"}
model: opnai:x
tools:
  read_file: ./my_tools.py:count
  lost: ./my_tools.py:lost
  undeclared: ./my_tools.py:undeclared
permissions: {fetch: everything, sandbox: [pypi.org]}
limits: {tokens: 0, tme: 3m}
users: [a/b]
mcp: {}
""",
        folder,
    )
    assert {one.file for one in found.values()} == {str(folder / "bad.yaml")}
    assert found[2, "roles.tester.uses"].kind == "code"
    assert found[3, "roles.coder.tools.0"].hint.startswith("Did you mean 'read_file'?")
    assert "requests carry names only" in found[3, "roles.coder.tools"].hint
    assert found[3, "roles.coder.model"].kind == "unknown_name"
    assert (4, "roles.Bad Name") in found
    assert found[12, "permissions.fetch"].kind == "value"
    assert found[12, "permissions.sandbox"].kind == "not_yet", "as in a scenario"
    assert (13, "limits.tokens") in found
    assert found[13, "limits.tme"].hint == "Did you mean 'time'?"
    assert (14, "users.0") in found
    assert found[15, "mcp"].kind == "unknown_key"


def test_what_only_shows_in_a_well_formed_file(folder):
    found = faults_of(
        """\
model: opnai:x
endpoints: {openai: {url: "https://x.org"}}
tools:
  read_file: ./my_tools.py:count
  lost: ./my_tools.py:lost
  undeclared: ./my_tools.py:undeclared
""",
        folder,
    )
    assert found[1, "model"].hint.startswith("Did you mean 'openai'?")
    assert "a provider of ours" in found[2, "endpoints.openai"].message
    assert "is a tool of ours" in found[4, "tools.read_file"].message
    assert found[5, "tools.lost"].kind == "code"
    assert found[6, "tools.undeclared"].kind == "not_yet"


@pytest.mark.parametrize("text", ["- a\n", "text\n", "3\n"])
def test_what_is_no_mapping_is_no_configuration(folder, text):
    assert "is a mapping" in faults_of(text, folder)[None, None].message


def test_every_section_is_in_the_table_of_sections():
    whole = SECTIONS[()]
    assert all(issubclass(one, Section) for one in SECTIONS.values())
    assert {path[0] for path in SECTIONS if path} == {"roles", "endpoints", "permissions", "limits"}
    assert {*whole.model_fields} == {"roles", "endpoints", "model", "tools", "permissions", "limits", "users"}


def test_who_plans_and_who_accepts_is_the_hubs_own_unless_it_says_otherwise(folder):
    nothing_said = HubConfig()
    assert nothing_said.may_offer("hub", "critic", own="hub")
    assert nothing_said.may_offer("mallory", "coder", own="hub")
    assert not nothing_said.may_offer("mallory", "critic", own="hub")
    assert not nothing_said.may_offer("mallory", "planner", own="hub")
    assert nothing_said.may_offer("mallory", "planner", own=None), "with --no-agents somebody else must bring it"
    (folder / "said.yaml").write_text("roles: {planner: {users: [ann]}, coder: {users: [ann, bob]}}\n")
    said = HubConfig.load(folder / "said.yaml")
    assert [said.may_offer(user, "planner", own="hub") for user in ("hub", "ann", "bob")] == [True, True, False]
    assert [said.may_offer(user, "coder", own=None) for user in ("hub", "ann", "bob")] == [False, True, True]
