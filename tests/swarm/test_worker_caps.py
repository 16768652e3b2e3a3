"""What an attached worker lends to requests: no more than its owner allows, and nothing left out silently."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.briefing import Briefing
from agents.roles.coder import Coder
from bus import lookup
from bus.setup import Permissions, RoleSetup
from swarm.attached.worker_caps import WorkerCaps, by_itself, capped, refusal, worker_caps
from swarm.attached.workshop import Craft, OwnWorkshop
from swarm.errors import UsageError
from swarm.scenario.rules import BUILT_IN_TOOLS
from swarm.settings import Settings
from swarm.submissions.caps import NOTHING
from tests.support.events import TEXTS

TOOLS = """
from swarm import tool

@tool(effect="reads")
async def count(path: str) -> int:
    \"\"\"Count.\"\"\"
    return 1

@tool(effect="outward")
async def asks(path: str) -> int:
    \"\"\"Ask.\"\"\"
    return 1

@tool(effect="reads")
async def read_file(path: str) -> int:
    \"\"\"Shadow.\"\"\"
    return 1

async def bare(path: str) -> int: ...
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_tools.py").write_text(TOOLS)
    return tmp_path


def briefing(*tools, permissions=None, **role):
    return Briefing(
        "goal", RoleSetup(model="openai:x", tools=tools).model_copy(update=role), permissions or Permissions()
    )


def test_a_worker_allows_its_roles_own_tools_and_no_network(folder):
    caps = worker_caps(BUILT_IN_TOOLS["coder"], folder=folder)
    assert caps.tools == frozenset(BUILT_IN_TOOLS["coder"])
    assert caps.permissions == NOTHING
    wanted = briefing(*BUILT_IN_TOOLS["coder"], permissions=Permissions(private_hosts=("127.0.0.1:80",)))
    assert refusal(wanted, caps) is None
    assert capped(wanted, caps).permissions == NOTHING
    assert capped(wanted, caps).role.tools == BUILT_IN_TOOLS["coder"]


def test_a_request_that_needs_a_tool_that_is_not_allowed_is_declined_with_the_reason(folder):
    caps = worker_caps(BUILT_IN_TOOLS["coder"], folder=folder)
    told = refusal(briefing("read_file", "run_command"), caps)
    assert told is not None
    assert told.startswith("this agent does not allow run_command (allowed: edit_file, ")
    assert "--tools" in told
    assert (
        refusal(briefing("read_file", "run_command"), worker_caps((), tools="run_command,read_file", folder=folder))
        is None
    )


def test_a_role_that_nobody_grants_a_tool_has_its_own_by_name_and_none_that_only_a_scenario_grants(folder):
    declared = ("./my_tools.py:count", "write_file", "run_command")
    caps = worker_caps(declared, tools="read_file", folder=folder)
    assert by_itself(declared, caps) == ("count", "write_file")


def test_a_tool_of_ones_own_is_found_by_name_and_only_in_the_workers_own_file(folder):
    caps = worker_caps(("read_file",), tools="./my_tools.py:count", folder=folder)
    assert refusal(briefing("count"), caps) is None
    assert lookup.load("count", caps.table, folder / "elsewhere").name == "count"
    assert refusal(briefing("/tmp/evil.py:other"), caps) is not None
    assert capped(briefing("./their_tools.py:count", "evil:read_file", "os:system"), caps).role.tools == (
        "count",
        "read_file",
    )


@pytest.mark.parametrize(
    ("tools", "told"),
    [
        ("read_fil", "Did you mean 'read_file'?"),
        ("./nothing.py:count", "there is no file './nothing.py'"),
        ("./my_tools.py:missing", "there is no 'missing'"),
        ("./my_tools.py:bare", "is not under @tool"),
        ("./my_tools.py:read_file", "'read_file' is a tool of ours"),
        ("./my_tools.py", "does not name anything"),
    ],
)
def test_a_tool_that_is_none_is_said_before_the_worker_attaches(folder, tools, told):
    with pytest.raises(UsageError) as caught:
        worker_caps((), tools=tools, folder=folder)
    assert told in str(caught.value)
    assert str(caught.value).startswith("--tools")


def test_a_model_of_an_endpoint_that_the_agent_does_not_have_is_declined_with_what_its_owner_can_do(folder):
    caps = {"coder": worker_caps(("read_file",), folder=folder)}
    workshop = OwnWorkshop({"coder": Craft(Coder)}, caps, Settings(home=folder), folder=folder)
    told = workshop.refusal("coder", briefing("read_file", model="lab:big"))
    assert told is not None
    assert told.startswith("'lab' is no provider of models (known: ")
    assert told.endswith("This agent's owner can name a model that it has, by --model")


@pytest.mark.parametrize(
    ("network", "fetch"),
    [
        (None, "none"),
        ("", "none"),
        ("none", "none"),
        ("public", "public"),
        ("Example.org, *.x.org:8080", ("example.org", "*.x.org:8080")),
    ],
)
def test_the_network_is_what_the_owner_says(folder, network, fetch):
    assert worker_caps((), network=network, folder=folder).permissions == Permissions(fetch=fetch)


@pytest.mark.parametrize("network", ["http://x.org", "x.org/y", "public,x.org", "x y"])
def test_a_host_that_is_none_is_said(folder, network):
    with pytest.raises(UsageError, match=r"--network: .* is no host"):
        worker_caps((), network=network, folder=folder)


def test_pages_are_not_promised_where_none_can_be_fetched(folder):
    wanted = briefing("fetch_page", permissions=Permissions(fetch=("x.org",)))
    closed = worker_caps(("fetch_page",), folder=folder)
    assert "--network" in (refusal(wanted, closed) or "")
    assert "--network" in (refusal(wanted, worker_caps(("fetch_page",), network="y.org", folder=folder)) or "")
    assert refusal(wanted, worker_caps(("fetch_page",), network="*.org", folder=folder)) is None
    assert refusal(briefing("fetch_page", permissions=NOTHING), closed) is None, "it asks for none itself"


def test_a_request_brings_no_class_no_arguments_and_no_variables_but_inputs(folder):
    wanted = replace(
        briefing(uses="/tmp/evil.py:Evil", options={"path": "/etc"}), env={"INPUT_A": "a", "LD_PRELOAD": "/tmp/x.so"}
    )
    got = capped(wanted, worker_caps((), folder=folder))
    assert (got.role.uses, got.role.options, got.env) == (None, {}, {"INPUT_A": "a"})


def test_a_model_that_is_a_file_is_the_owners_to_name(folder):
    wanted = briefing(model="scripted:/etc/passwd")
    assert "--model" in (refusal(wanted, worker_caps((), folder=folder), "coder") or "")
    caps = worker_caps((), models={"coder": "scripted:mine.yaml"}, folder=folder)
    assert refusal(wanted, caps, "coder") is None
    assert capped(wanted, caps, "coder").role.model == "scripted:mine.yaml"
    assert "--model" in (refusal(wanted, caps, "critic") or "")


@given(
    st.lists(st.sampled_from(["read_file", "run_command", "count", "/x.py:f", "os:system"]) | TEXTS, max_size=5),
    st.frozensets(st.sampled_from(["read_file", "count"])),
)
def test_no_request_gets_a_tool_that_is_not_allowed(tools, allowed):
    caps = WorkerCaps(allowed)
    wanted = briefing(*tools)
    got = capped(wanted, caps)
    assert {*got.role.tools} <= allowed
    assert capped(got, caps) == got
    assert refusal(got, caps) is None
    if refusal(wanted, caps) is None:
        assert len({*got.role.tools}) == len({tool.rpartition(":")[2] for tool in tools})
