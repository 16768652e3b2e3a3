import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import checks
from agents.check import CheckContext
from agents.files.project_folder import ProjectFolder
from bus.setup import Limits, Permissions, Price, Setup
from swarm.errors import Fault, ScenarioError
from swarm.scenario.file import LARGEST_LIMITS, SECTIONS, ScenarioFile, Section
from swarm.scenario.may import may
from swarm.scenario.model import RoleModel, Scenario, change_limits, schema
from swarm.scenario.yaml_source import parse_source

GOOD = r"""
name: market-brief
description: one line
goal: |
  Write report.md for ${{ inputs.company }}.
inputs:
  company: {default: a small bakery, description: who the report is for}
workspace: ./material
model: openai:gpt-5-mini
endpoints:
  lab: {url: "https://lab.example/v1", key: LAB_KEY, price: {input: 0.10, output: 0.40}}
roles:
  researcher: {agents: 4, tools: [fetch_page, read_file], model: "lab:big"}
  coder: {model: "local:small", tools: [read_file, run_python], prompt: ./coder.md, deadline: 5m}
  editor: {uses: ./editor.py:Editor, with: {style: plain, nothing: null}, max_tokens: 2k, window: 16k, dialogue: json}
accept:
  - file: report.md
  - text: report.md
    min_words: 300
    contains: [Sources, "re:\\d+ EUR"]
  - json: prices.json
    schema: prices.schema.json
  - run: python -m unittest -q
    timeout: 60s
  - ask: Every price stands in the material.
plan:
  - {id: facts, role: researcher, do: List every price.}
  - {id: brief, role: editor, do: Write report.md., needs: [facts], accept: [{file: report.md}]}
limits: {time: 30m, tokens: 200k, money: 0.50 USD, rounds: 3, attempts: 3, subtasks: 24, parallel: 8, calls: 64}
permissions: {fetch: [example.org, "*.example.org"], private_hosts: ["127.0.0.1:8080"], sandbox: [], approve: []}
sandbox: {use: bwrap}
outcome: [report.md, "*.png"]
"""

TOOLS = """
from swarm import tool

raise SystemExit("this is never run by a check")

@tool(effect="reads")
async def count(path: str) -> int: ...

@tool()
async def undeclared(path: str) -> int: ...

@tool(effect="outward", needs_approval=True)
async def asks(path: str) -> int: ...

@tool(effect="outward")
async def post(path: str) -> int: ...

@tool(effect="reads", **options)
async def unclear(path: str) -> int: ...

async def bare(path: str) -> int: ...

def plain(path: str) -> int: ...
"""

EDITOR = """
import helper

class Editor(Role[SubtaskAssigned, ResultSubmitted]):
    name = "editor"
    tools = ("read_file", "./my_tools.py:count")

class Greedy:
    tools = ("run_command", "./my_tools.py:post", "nothing_we_know")

def function(): ...
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "material").mkdir()
    (tmp_path / "material" / "a.txt").write_text("1 EUR")
    (tmp_path / "coder.md").write_text("You code.")
    (tmp_path / "prices.schema.json").write_text('{"type": "array"}')
    (tmp_path / "my_tools.py").write_text(TOOLS)
    (tmp_path / "editor.py").write_text(EDITOR)
    (tmp_path / "helper.py").write_text("x = 1")
    (tmp_path / "good.yaml").write_text(GOOD)
    return tmp_path


def faults_of(text: str, folder: Path, **options: Any) -> list[Fault]:
    path = folder / "bad.yaml"
    path.write_text(text)
    try:
        Scenario.load(path, **options)
    except ScenarioError as error:
        return list(error.faults)
    return []


def the_fault(text: str, folder: Path, **options: Any) -> Fault:
    (fault,) = faults_of(text, folder, **options)
    return fault


# What a good file becomes


def test_a_scenario_of_every_key_becomes_a_setup(folder: Path) -> None:
    scenario = Scenario.load(folder / "good.yaml")
    found = Price(input=1, output=2, cached=0)
    models = {
        name: RoleModel(
            role.model or scenario.model or "", dialogue="json" if name == "coder" else "native", price=found
        )
        for name, role in scenario.roles.items()
    }
    setup = scenario.resolve(models, declared={"editor": ["read_file"]})
    assert Setup.model_validate_json(setup.model_dump_json()) == setup
    assert setup.goal == "Write report.md for a small bakery.\n"
    assert setup.inputs == {"company": "a small bakery"}
    assert setup.limits == Limits(money=500_000_000_000)
    assert setup.permissions == Permissions(fetch=("example.org", "*.example.org"), private_hosts=("127.0.0.1:8080",))
    assert list(setup.roles) == ["planner", "researcher", "coder", "critic", "editor"]
    researcher, coder, editor = setup.roles["researcher"], setup.roles["coder"], setup.roles["editor"]
    assert researcher.price == Price(input=100_000, output=400_000, cached=100_000)
    assert (researcher.agents, researcher.deadline_ms) == (4, 600_000)
    assert (coder.prompt, coder.deadline_ms, coder.dialogue, coder.price) == ("You code.", 300_000, "json", found)
    assert (editor.tools, editor.max_tokens, editor.window, editor.dialogue) == (("read_file",), 2_000, 16_000, "json")
    assert editor.options == {"style": "plain", "nothing": None}
    assert setup.roles["critic"].tools == ("read_file", "list_files", "search_files")
    assert setup.roles["critic"].price == found
    assert setup.roles["planner"].tools == ()
    assert setup.plan is not None
    assert setup.plan[1].needs == ("facts",)
    assert setup.plan[1].accept == ({"file": "report.md"},)
    assert setup.folder == str(folder)
    assert scenario.workspace == ("./material",)
    assert scenario.warnings == ()


def test_only_a_goal_is_required(folder: Path) -> None:
    (folder / "First Steps.yaml").write_text("goal: x")
    scenario = Scenario.load(folder / "First Steps.yaml")
    assert scenario.name == "first-steps"
    assert scenario.model is None
    assert scenario.plan is None
    assert scenario.resolve(dict.fromkeys(scenario.roles, RoleModel("openai:x"))).limits == Limits()
    assert scenario.roles["coder"].agents == Limits().parallel


def test_a_role_of_ones_own_keeps_the_tools_of_its_class_until_that_is_loaded(folder: Path) -> None:
    scenario = Scenario.load(folder / "good.yaml")
    models = dict.fromkeys(scenario.roles, RoleModel("openai:x"))
    assert scenario.roles["editor"].tools is None
    with pytest.raises(KeyError, match="editor"):
        scenario.resolve(models)
    with pytest.raises(ScenarioError, match="only a scenario grants: run_command"):
        scenario.resolve(models, declared={"editor": ["read_file", "run_command"]})


def test_the_same_data_from_a_mapping_is_the_same_scenario(folder: Path) -> None:
    data = parse_source(GOOD).data
    assert isinstance(data, dict)
    data["accept"] = tuple(data["accept"])  # type: ignore[arg-type]
    data["workspace"] = Path("material")  # type: ignore[assignment]
    mapping = Scenario.from_dict(data, folder=folder)
    file = Scenario.load(folder / "good.yaml")
    assert mapping.roles == file.roles
    assert (mapping.accept, mapping.plan, mapping.goal) == (file.accept, file.plan, file.goal)


def test_a_mapping_s_faults_have_fields_and_no_lines() -> None:
    itself: dict[str, object] = {"goal": "x"}
    itself["roles"] = {"coder": itself, "critic": itself}
    for mapping, field in [
        ({"goal": 5}, "goal"),
        ({"goal": "x", "limits": {"tme": "3m"}}, "limits.tme"),
        ({"goal": object()}, "goal"),
        ({"goal": "a\0b"}, "goal"),
        ({"goal": "\ud800"}, "goal"),
        ({"goal": "x", 5: "y"}, None),
        ({"goal": "x", "limits": {"tokens": 10**5000}}, "limits.tokens"),
        ({"goal": "x", "limits": {"tokens": float("nan")}}, "limits.tokens"),
        (itself, None),
        ({}, None),
    ]:
        with pytest.raises(ScenarioError) as raised:
            Scenario.from_dict(mapping)  # type: ignore[arg-type]
        fault = raised.value.faults[0]
        assert (fault.file, fault.line) == (None, None)
        assert field is None or fault.field == field


@pytest.mark.parametrize("model", ["openai:x", "local:x", "ollama:qwen3:8b", "llamacpp:x"])
def test_a_file_may_name_whatever_model_the_command_line_may(model: str, folder: Path) -> None:
    scenario = Scenario.from_dict({"goal": "x", "model": model, "roles": {"coder": {"model": model}}}, folder=folder)
    assert (scenario.model, scenario.roles["coder"].model) == (model, model)


def test_an_endpoint_may_bear_the_name_of_a_server_that_is_looked_for(folder: Path) -> None:
    elsewhere = {"ollama": {"url": "https://lab.example/v1"}}
    assert Scenario.from_dict({"goal": "x", "endpoints": elsewhere}, folder=folder).endpoints["ollama"].url


# Faults


def test_every_fault_is_found_in_one_go_with_its_place(folder: Path) -> None:
    found = faults_of(
        """\
goal: 5
gaol: x
roles:
  reseacher: {tools: [read_fil]}
  coder: {agents: 0, tools: [nope]}
plan:
  - {id: a, role: tester, do: x, needs: [b, c]}
  - {id: b, role: coder, do: x, needs: [a], foo: 1}
limits: {cals: 3, time: 0s}
mcp: {}
""",
        folder,
    )
    places = {(fault.line, fault.column, fault.field): fault for fault in found}
    assert list(places) == sorted(places, key=lambda place: (place[0] or 0, place[1] or 0))
    assert {fault.file for fault in found} == {str(folder / "bad.yaml")}
    assert places[1, 7, "goal"].kind == "type"
    assert places[2, 1, "gaol"].hint == "Did you mean 'goal'?"
    assert places[4, 3, "roles.reseacher"].hint.startswith("Did you mean 'researcher'? For a role of your own, add")
    assert places[4, 23, "roles.reseacher.tools.0"].hint.startswith("Did you mean 'read_file'?")
    assert places[5, 19, "roles.coder.agents"].kind == "value"
    assert places[5, 30, "roles.coder.tools.0"].kind == "unknown_name"
    assert places[7, 19, "plan.0.role"].kind == "unknown_name"
    assert places[7, 45, "plan.0.needs.1"].kind == "plan"
    assert "'a' needs 'b' needs 'a'" in places[7, 41, "plan.0.needs"].message
    assert places[8, 45, "plan.1.foo"].kind == "unknown_key"
    assert places[9, 10, "limits.cals"].hint == "Did you mean 'calls'?"
    assert places[9, 25, "limits.time"].kind == "value"
    assert places[10, 1, "mcp"].kind == "not_yet"
    assert len(found) == 13


def test_a_fault_prints_as_place_field_message_and_what_to_do(folder: Path) -> None:
    fault = the_fault("goal: x\nlimits: {tme: 3m}", folder)
    assert str(fault) == (
        f"{folder}/bad.yaml:2:10: limits.tme: unknown key 'tme' (known: attempts, calls, money, parallel, rounds, "
        "subtasks, time, tokens)\n  Did you mean 'time'?"
    )
    assert json.loads(json.dumps(fault.as_dict()))["kind"] == "unknown_key"
    assert list(fault.as_dict()) == ["kind", "message", "file", "line", "column", "field", "hint"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "---\n"])
def test_an_empty_file_says_what_a_scenario_needs(text: str, folder: Path) -> None:
    fault = the_fault(text, folder)
    assert fault.kind == "missing"
    assert "goal" in fault.hint


@pytest.mark.parametrize("text", ["- goal", "goal", "5", "true"])
def test_what_is_no_mapping_is_no_scenario(text: str, folder: Path) -> None:
    assert the_fault(text, folder).kind == "type"


@pytest.mark.parametrize(
    ("text", "kind", "field"),
    [
        ("plan: []", "type", "plan"),
        ("plan:", "type", "plan"),
        ("plan: [{id: a, role: planner, do: x}]", "plan", "plan.0.role"),
        ("plan: [{id: plan-1, role: coder, do: x}]", "plan", "plan.0.id"),
        ("plan: [{id: outcome, role: coder, do: x}]", "plan", "plan.0.id"),
        ("plan: [{id: a.b, role: coder, do: x}]", "value", "plan.0.id"),
        (
            "{plan: [{id: a, role: critic, do: x}], roles: {critic: {uses: './editor.py:Editor'}}}",
            "plan",
            "plan.0.role",
        ),
        ("plan: [{id: a, role: coder, do: ' '}]", "value", "plan.0.do"),
        ("plan: [{id: a, role: coder}]", "missing", "plan.0.do"),
        ("plan: [{id: a, role: coder, do: x}, {id: a, role: coder, do: x}]", "plan", "plan.1.id"),
        ("plan: [{id: a, role: coder, do: x, needs: [a]}]", "plan", "plan.0.needs"),
        ("{plan: [{id: a, role: coder, do: x}, {id: b, role: coder, do: x}], limits: {subtasks: 1}}", "plan", "plan"),
        ("name: Market Brief", "value", "name"),
        ("name: ../x", "value", "name"),
        ("limits: {time: 30}", "value", "limits.time"),
        ("limits: {money: 0.5}", "value", "limits.money"),
        ("limits: {tokens: -1}", "value", "limits.tokens"),
        ("limits: {parallel: true}", "value", "limits.parallel"),
        ("limits: {attempts: 100000}", "value", "limits.attempts"),
        ("limits:", "type", "limits"),
        ("model: gpt-5", "value", "model"),
        ("model: 'opnai:x'", "unknown_name", "model"),
        ("model: 'scripted:none.yaml'", "file", "model"),
        ("memory: {collection: x}", "not_yet", "memory"),
        ("permissions: {approve: [x]}", "not_yet", "permissions.approve"),
        ("permissions: {sandbox: [x.org]}", "not_yet", "permissions.sandbox"),
        ("permissions: {fetch: all}", "value", "permissions.fetch"),
        ("permissions: {fetch: ['http://x.org']}", "value", "permissions.fetch.0"),
        ("permissions: {private_hosts: [10.0.0.1]}", "value", "permissions.private_hosts.0"),
        ("roles: {coder: {tools: [search_web]}}", "not_yet", "roles.coder.tools.0"),
        ("roles: {coder: {with: {a: 1}}}", "value", "roles.coder.with"),
        ("roles: {coder: {prompt: ./none.md}}", "file", "roles.coder.prompt"),
        ("roles: {coder: {dialogue: loud}}", "value", "roles.coder.dialogue"),
        ("roles: {coder: [x]}", "type", "roles.coder"),
        ("roles: {'Big Role': {uses: './editor.py:Editor'}}", "value", "roles.Big Role"),
        ("endpoints: {x: {url: ftp://x}}", "value", "endpoints.x.url"),
        ("endpoints: {openai: {url: 'https://x'}}", "value", "endpoints.openai"),
        ("endpoints: {x: {url: 'https://x', price: {input: 0.1}}}", "missing", "endpoints.x.price.output"),
        ("workspace: [material, ./none]", "file", "workspace"),
        ("sandbox: {python: ./none}", "file", "sandbox.python"),
        ("outcome: ../x", "value", "outcome.0"),
        ("goal: x", "yaml", None),
    ],
)
def test_each_kind_of_nonsense_is_one_fault_at_its_field(text: str, kind: str, field: str, folder: Path) -> None:
    whole = text.replace("{", "{goal: x, ", 1) if text.startswith("{") else f"goal: x\n{text}"
    fault = the_fault(whole, folder)
    assert (fault.kind, fault.field) == (kind, field)
    assert fault.line is not None


@pytest.mark.parametrize(
    "text",
    [
        "url: 'https://x/v1', key: sk-123456789",
        "url: 'https://me:sk-123456789@x/v1'",
        "url: 'https://x?k=sk-123456789'",
        "url: 'https://me:sk-123456789@x:99999'",
    ],
)
def test_a_secret_in_the_wrong_place_is_never_shown(text: str, folder: Path) -> None:
    found = faults_of(f"goal: x\nendpoints: {{lab: {{{text}}}}}", folder)
    assert any(fault.field and fault.field.startswith("endpoints.lab") for fault in found)
    assert "123456789" not in str(ScenarioError(found))


@pytest.mark.parametrize(
    ("entry", "field", "words"),
    [
        ("{flie: report.md}", "accept.1.flie", "There is no check 'flie'"),
        ("{text: a.md, min_word: 3}", "accept.1.min_word", "min_words"),
        ("{text: a.md, min_words: many}", "accept.1.min_words", "whole number"),
        ("{text: a.md, contains: ['re:(']}", "accept.1.contains", "regular expression"),
        ("{run: 'true', timeout: soon}", "accept.1.timeout", "duration"),
        ("{file: ../x}", "accept.1.file", ""),
        ("{file: a, run: b}", "accept.1.run", "two checks"),
        ("{}", "accept.1", "should name a check"),
    ],
)
def test_an_accept_entry_that_no_check_understands_is_a_fault_at_its_key(
    entry: str, field: str, words: str, folder: Path
) -> None:
    fault = the_fault(f"goal: x\naccept:\n  - {{file: report.md}}\n  - {entry}\n", folder)
    assert (fault.kind, fault.field, fault.line) == ("criterion", field, 4)
    assert words in fault.message
    text = f"goal: x\nplan:\n - {{id: a, role: coder, do: x, accept: [{{file: report.md}}, {entry}]}}\n"
    assert the_fault(text, folder).field == f"plan.0.{field}"


# Schemas

NAMED = "goal: x\naccept:\n  - json: a.json\n    schema: "


@pytest.mark.parametrize("name", ["prices.schema.json", "./prices.schema.json"])
def test_a_schema_beside_the_scenario_is_taken_in(name: str, folder: Path) -> None:
    (folder / "x.yaml").write_text(NAMED + name)
    for workspace in [], ["workspace=."]:
        scenario = Scenario.load(folder / "x.yaml", settings=workspace)
        assert scenario.accept == ({"json": "a.json", "schema": {"type": "array"}},)
        assert dict(scenario.schemas) == {folder / "prices.schema.json": '{"type": "array"}'}
        assert scenario.written["accept"] == [{"json": "a.json", "schema": name}]


@pytest.mark.parametrize(
    "settings",
    [
        ["workspace=../elsewhere/data"],
        ["workspace=[material, ../elsewhere/data/s.json]", "accept.0.schema=s.json"],
        ["goal=Write data/s.json and a.json."],
        ["plan=[{id: a, role: coder, do: Write s.json.}]"],
        ["plan=[{id: a, role: coder, do: x, accept: [{file: ./data/s.json}]}]"],
    ],
)
def test_a_schema_that_is_or_will_be_in_the_project_is_read_there(settings: list[str], folder: Path) -> None:
    (folder / "elsewhere" / "data").mkdir(parents=True)
    (folder / "elsewhere" / "data" / "s.json").write_text("{}")
    (folder / "own").mkdir()
    (folder / "own" / "material").mkdir()
    (folder / "own" / "x.yaml").write_text(f"{NAMED}data/s.json\n")
    [criterion, *_] = Scenario.load(folder / "own" / "x.yaml", settings=settings).accept
    assert str(criterion["schema"]).endswith("s.json")


def test_a_schema_that_is_nowhere_and_that_nobody_makes_is_a_fault(folder: Path) -> None:
    fault = the_fault(f"{NAMED}p.schema.json\nworkspace: ./material\n", folder)
    assert (fault.kind, fault.field, fault.line) == ("file", "accept.0.schema", 4)
    assert "beside the scenario" in fault.message
    assert str(folder) in fault.hint
    text = "goal: x\nplan: [{id: a, role: coder, do: x, accept: [{json: a, schema: b}]}]"
    assert the_fault(text, folder).field == "plan.0.accept.0.schema"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no JSON"),
        ("[" * 30_000, "no JSON"),
        ("[]", "an object"),
        ('{"minumum": 1}', "'minumum' is not supported"),
        ('{"pattern": "("}', "no regular expression"),
        ('{"not": ' * 800 + "{}" + "}" * 800, "nested"),
        (" " * 70_000, "more than 65,536 bytes"),
        ("\xff", "not UTF-8"),
    ],
    ids=range(8),
)
def test_a_schema_that_no_check_can_use_is_a_fault_before_the_run(text: str, words: str, folder: Path) -> None:
    (folder / "s.json").write_bytes(text.encode("latin-1"))
    fault = the_fault(f"{NAMED}s.json", folder)
    assert fault.field is not None
    assert fault.field.startswith("accept.0.schema")
    assert (fault.line, words in str(fault)) == (4, True)


def test_a_schema_may_stand_in_the_scenario(folder: Path) -> None:
    (folder / "x.yaml").write_text(f"{NAMED}{{required: [price], properties: {{price: {{const: null}}}}}}")
    [criterion] = Scenario.load(folder / "x.yaml").accept
    assert criterion["schema"] == {"required": ["price"], "properties": {"price": {"const": None}}}
    assert "not supported" in the_fault(f"{NAMED}{{requird: [price]}}", folder).message


# Inputs


def test_inputs_go_in_as_text_and_are_not_looked_at_again(folder: Path) -> None:
    text = "goal: a ${{inputs.x}} $${{ inputs.x }}\ninputs: {x: {default: y}}\nlimits: {time: '${{ inputs.x }}'}\n"
    (folder / "x.yaml").write_text(text.replace("time: '${{ inputs.x }}'", "rounds: 2"))
    scenario = Scenario.load(folder / "x.yaml", inputs={"x": "${{ inputs.x }}: [1"})
    assert scenario.goal == "a ${{ inputs.x }}: [1 ${{ inputs.x }}"
    (folder / "x.yaml").write_text(text)
    assert Scenario.load(folder / "x.yaml", settings=["x=5m"]).limits.time_ms == 300_000


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        (["company=a: b"], "a: b"),
        (["inputs.company='a: b'"], "a: b"),
        (["company=1.10"], "1.10"),
        (["company=[x"], "[x"),
        (["company="], ""),
        (["company=x=y"], "x=y"),
        (["company=a", "company=b"], "b"),
    ],
)
def test_an_input_is_set_as_text(settings: list[str], value: str, folder: Path) -> None:
    assert Scenario.load(folder / "good.yaml", settings=settings).inputs == {"company": value}


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        ("${{ inputs.compny }}", "Did you mean 'company'"),
        ("${{ env.HOME }}", "reach a model"),
        ("${{ secrets.X }}", "means nothing"),
        ("${{ inputs.company", "not closed"),
        ("${{ }}", "means nothing"),
    ],
)
def test_what_cannot_be_inserted_is_a_fault(goal: str, words: str, folder: Path) -> None:
    fault = the_fault(f"inputs: {{company: {{default: x}}}}\ngoal: '{goal}'", folder)
    assert (fault.kind, fault.line) == ("input", 2)
    assert words in str(fault)


async def test_an_input_can_be_a_number_of_a_check(folder: Path) -> None:
    text = "goal: x\ninputs: {n: {default: '2'}}\naccept: [{text: a.md, max_words: '${{ inputs.n }}'}]\n"
    (folder / "x.yaml").write_text(text)
    (folder / "a.md").write_text("one two three")
    context = CheckContext(ProjectFolder(folder))
    for inputs, verdict in ({}, "fails"), ({"n": "3"}, "holds"):
        [criterion] = Scenario.load(folder / "x.yaml", inputs=inputs).accept
        assert (await checks.parse(criterion).judge(context)).verdict == verdict


def test_an_input_in_a_command_names_the_variable(folder: Path) -> None:
    text = (
        "goal: x\ninputs: {company: {default: x}}\naccept: [{run: 'echo ${{ inputs.company }}'}]\n"
        "plan: [{id: a, role: coder, do: x, accept: [{run: 'echo ${{ inputs.company }}'}]}]\n"
    )
    found = faults_of(text, folder)
    assert [(fault.kind, fault.line) for fault in found] == [("input", 3), ("input", 4)]
    assert all("$INPUT_COMPANY" in fault.message for fault in found)


def test_an_input_without_a_value_or_with_a_wrong_name_is_a_fault(folder: Path) -> None:
    assert "--set x=VALUE" in the_fault("goal: x\ninputs: {x: {description: y}}", folder).hint
    assert the_fault("goal: x\ninputs: {Big-Name: {default: y}}", folder).field == "inputs.Big-Name"
    assert the_fault("goal: x", folder, inputs={"y": "1"}).field == "inputs.y"
    assert the_fault("goal: x\ninputs: {x: {default: y}}", folder, inputs={"x": 5}).kind == "type"
    assert the_fault("goal: x\ninputs: {x: {default: '${{ inputs.x }}'}}", folder).field == "inputs.x.default"


# --set and --goal


def test_settings_are_read_as_yaml_and_make_what_is_missing(folder: Path) -> None:
    scenario = Scenario.load(
        folder / "good.yaml",
        goal="Something else.",
        settings=[
            "limits.tokens=1M",
            "roles.critic.tools=[read_file]",
            "plan.0.do=Look again.",
            "model=openai:x",
            "permissions.fetch=none",
        ],
    )
    assert scenario.goal == "Something else."
    assert scenario.limits.tokens == 1_000_000
    assert scenario.roles["critic"].tools == ("read_file",)
    assert scenario.plan is not None
    assert scenario.plan[0].instruction == "Look again."
    assert (scenario.model, scenario.permissions.fetch) == ("openai:x", "none")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("limts.time=3m", "Did you mean 'limits'?"),
        ("limits.tme=3m", "there are: attempts, calls, money, parallel, rounds, subtasks, time, tokens"),
        ("compny=x", "Did you mean 'company'?"),
        ("inputs.compny=x", "Did you mean 'company'?"),
        ("plan.7.do=x", "a list of 2"),
        ("plan.x.do=x", "a list of 2"),
        ("goal.x=y", "has no parts"),
        ("limits.time", "PATH=VALUE"),
        ("=x", "PATH=VALUE"),
        ("limits.time=[", "not YAML"),
        ("limits.time=", "nothing is written"),
        ("limits.time=0s", "zero"),
        ("roles.reseacher.model=openai:x", "Did you mean 'researcher'"),
        ("limits.time=1m\x1b", "not YAML"),
    ],
)
def test_a_wrong_setting_says_which_it_was_and_what_there_is(setting: str, words: str, folder: Path) -> None:
    (fault,) = faults_of(GOOD, folder, settings=[setting])
    assert words in str(fault)
    assert (fault.file or "").startswith("--set ")
    assert str(fault).replace("\n", "").isprintable()


def test_only_limits_change_when_a_run_is_resumed() -> None:
    assert change_limits(["limits.time=1h", "limits.money=2 USD"]) == {"time_ms": 3_600_000, "money": 2 * 10**12}
    assert change_limits([]) == {}
    for setting in ("goal=x", "limits.tme=1h", "limits.time=0s", "limits=5"):
        with pytest.raises(ScenarioError, match="--set"):
            change_limits([setting])
    with pytest.raises(ScenarioError, match="`swarm fork`"):
        change_limits(["roles.coder.dialogue=json"])


def test_what_a_file_can_say_of_limits_at_most_is_what_is_taken_from_elsewhere() -> None:
    largest = {
        "time": "366d",
        "tokens": "1000000M",
        "money": "1000000 USD",
        **dict.fromkeys(("rounds", "attempts", "subtasks", "parallel", "calls"), "10k"),
    }
    assert set(LARGEST_LIMITS) == set(Limits.model_fields)
    assert change_limits([f"limits.{name}={value}" for name, value in largest.items()]) == LARGEST_LIMITS
    for name, more in largest.items():
        with pytest.raises(ScenarioError, match="too large"):
            change_limits([f"limits.{name}=1{more}"])


# Code of one's own


@pytest.mark.parametrize(
    ("tool", "kind", "words"),
    [
        ("./my_tools.py:undeclared", "not_yet", "does not declare its effect"),
        ("./my_tools.py:asks", "not_yet", "needs approval"),
        ("./my_tools.py:unclear", "not_yet", "needs approval"),
        ("./my_tools.py:bare", "code", "@tool"),
        ("./my_tools.py:plain", "code", "async"),
        ("./my_tools.py:cuont", "code", "Did you mean 'count'?"),
        ("./none.py:x", "code", "no file"),
        ("my_tools.py", "code", "./file.py:Name"),
        ("json.nothing:x", "code", "no module 'json.nothing'"),
        ("sys:exit", "code", "no module"),
        ("./broken.py:x", "code", "not Python"),
        ("./zeros.py:x", "code", "cannot be read|not Python"),
    ],
)
def test_a_tool_that_cannot_be_granted_is_known_without_importing_it(
    tool: str, kind: str, words: str, folder: Path
) -> None:
    (folder / "broken.py").write_text("def (")
    (folder / "zeros.py").write_bytes(b"x = 1\0")
    fault = the_fault(f"goal: x\nroles: {{coder: {{tools: ['{tool}']}}}}", folder)
    assert (fault.kind, fault.field) == (kind, "roles.coder.tools.0")
    assert any(word in str(fault) for word in words.split("|"))


def test_a_class_that_is_not_there_or_is_none_is_a_fault(folder: Path) -> None:
    for reference, words in [
        ("./editor.py:Edtor", "Did you mean 'Editor'?"),
        ("./editor.py:function", "a role is a class"),
        ("editor:Editor", "no module"),
        ("./editor.py", "./file.py:Name"),
    ]:
        fault = the_fault(f"goal: x\nroles: {{editor: {{uses: '{reference}'}}}}", folder)
        assert (fault.kind, fault.field) == ("code", "roles.editor.uses")
        assert words in str(fault)


def test_a_class_cannot_grant_itself_shell_or_network(folder: Path) -> None:
    text = "goal: x\nroles: {{greedy: {{uses: './editor.py:Greedy'{}}}}}"
    found = faults_of(text.format(""), folder)
    assert [fault.kind for fault in found] == ["value", "value", "unknown_name"]
    assert "'run_command'" in found[0].message
    assert not faults_of(text.format(", tools: [run_command, './my_tools.py:post']"), folder)


def test_a_class_that_declares_its_tools_as_one_text_is_told_what_to_write(folder: Path) -> None:
    (folder / "editor.py").write_text("class Editor(Role):\n    tools = ('read_file')\n")
    fault = the_fault("goal: x\nroles: {editor: {uses: './editor.py:Editor'}}", folder)
    assert (fault.kind, fault.field) == ("code", "roles.editor.uses")
    assert fault.message == "'Editor' has its tools as one text"
    assert fault.hint == "Write a tuple: ('read_file',)"


def test_a_module_is_found_without_importing_its_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = folder / "a_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit")
    (package / "tools.py").write_text(TOOLS)
    monkeypatch.syspath_prepend(folder)
    scenario = Scenario.from_dict({"goal": "x", "roles": {"coder": {"tools": ["a_package.tools:count"]}}})
    assert scenario.roles["coder"].tools == ("a_package.tools:count",)
    assert str(package / "tools.py") in str(may(scenario)["code"])


def test_what_a_scenario_may_do_is_said_before_it_does_it(folder: Path) -> None:
    said = may(Scenario.load(folder / "good.yaml", settings=["roles.critic.tools=[./my_tools.py:post]"]))
    assert said["code"] == [str(folder / name) for name in ("editor.py", "helper.py", "my_tools.py")]
    assert said["environment"] == ["LAB_KEY"]
    assert said["endpoints"] == {"lab": "lab.example"}
    assert said["fetch"] == ["example.org", "*.example.org"]
    assert said["outward_tools"] == ["./my_tools.py:post"]
    assert said["commands"] == ["python -m unittest -q"]
    assert said["reads"] == [str(folder / name) for name in ("material", "coder.md", "prices.schema.json")]
    tools = said["tools"]
    assert isinstance(tools, dict)
    assert tools["editor"] == ["read_file", "./my_tools.py:count"]
    json.dumps(said)


# Warnings


def test_few_tokens_for_many_agents_are_warned_of(folder: Path) -> None:
    (folder / "x.yaml").write_text("goal: x\nlimits: {tokens: 20k}\n")
    (warning,) = Scenario.load(folder / "x.yaml").warnings
    assert ":2:18: limits.tokens: 20000 tokens are few for 8 agents" in warning
    assert not Scenario.load(folder / "x.yaml", settings=["limits.parallel=3"]).warnings


def test_what_lies_outside_or_goes_unencrypted_is_warned_of(folder: Path) -> None:
    inner = folder / "inner"
    inner.mkdir()
    (inner / "x.yaml").write_text(
        "goal: x\nworkspace: ../material\nroles: {coder: {prompt: ../coder.md}, critic: {prompt: coder.md}}\n"
        "endpoints: {lab: {url: 'http://lab.example/v1', key: K}, here: {url: 'http://localhost/v1', key: K}}\n"
    )
    warnings = Scenario.load(inner / "x.yaml").warnings
    assert len(warnings) == 4
    assert sum("lies outside of" in line for line in warnings) == 2
    assert sum("unencrypted" in line for line in warnings) == 1
    assert sum("write ./coder.md" in line for line in warnings) == 1


# The published schema


@pytest.fixture(scope="module")
def accepts() -> Callable[[str], bool]:
    validator = jsonschema.Draft202012Validator(schema())
    return lambda text: bool(validator.is_valid(parse_source(text).data))


def test_the_schema_is_valid_and_describes_every_key() -> None:
    published = schema()
    jsonschema.Draft202012Validator.check_schema(published)
    assert published["$schema"] == "https://json-schema.org/draft/2020-12/schema"

    def bare(part: object, path: str = "") -> Iterator[str]:
        if isinstance(part, dict):
            for name, about in part.get("properties", {}).items():
                if "description" not in about:
                    yield f"{path}.{name}"
            for name, inner in part.items():
                yield from bare(inner, f"{path}.{name}")

    assert not list(bare(published))


def test_every_section_is_in_the_table_of_sections() -> None:
    def nested(kind: object) -> set[type[Section]]:
        if isinstance(kind, type) and issubclass(kind, Section):
            fields = (nested(field.annotation) for field in kind.model_fields.values())
            return {kind}.union(*fields)
        return set().union(*map(nested, getattr(kind, "__args__", ())))

    assert nested(ScenarioFile) == set(SECTIONS.values())


def test_the_schema_takes_what_the_loader_takes(accepts: Callable[[str], bool], folder: Path) -> None:
    for text in (
        GOOD.replace(", sandbox: [], approve: []", ""),
        "goal: x",
        "{goal: x, limits: {tokens: 5, time: 1h30m}, workspace: [material], permissions: {fetch: none}}",
        "{goal: x, inputs: {n: {default: 5m}}, limits: {time: '${{ inputs.n }}', rounds: '2'}}",
        "{goal: x, inputs: {n: {default: '5'}}, accept: [{text: a.md, min_words: '${{ inputs.n }}', max_words: '9'}]}",
        "{goal: x, accept: [{json: a.json, schema: {required: [b]}}, {json: a.json, schema: prices.schema.json}]}",
        "{goal: x, inputs: {n: {default: 5m}}, accept: [{run: 'true', timeout: '${{ inputs.n }}'}]}",
    ):
        assert accepts(text)
        assert not faults_of(text, folder)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{goal: 5}",
        "{goal: x, gaol: y}",
        "{goal: x, limits: {time: 30}}",
        "{goal: x, limits: {time: 30y}}",
        "{goal: x, limits: {tokens: 0}}",
        "{goal: x, limits: {money: 5 EUR}}",
        "{goal: x, limits: {cals: 5}}",
        "{goal: x, plan: []}",
        "{goal: x, plan: [{id: a, do: x}]}",
        "{goal: x, roles: {coder: {tool: [read_file]}}}",
        "{goal: x, roles: {coder: {dialogue: loud}}}",
        "{goal: x, permissions: {fetch: all}}",
        "{goal: x, mcp: {}}",
        "{goal: x, name: Big Name}",
        "{goal: x, limits: }",
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(text: str, accepts: Callable[[str], bool], folder: Path) -> None:
    assert not accepts(text)
    assert faults_of(text, folder)


@pytest.mark.parametrize(
    "entry",
    [
        "{flie: x}",
        "{file: x, min_words: 3}",
        "{text: x, contains: 3}",
        "{text: x, min_words: many}",
        "{text: x, min_words: -1}",
        "{run: 5}",
        "[x]",
        "{run: x, timeout: 1h30m}",
    ],
)
def test_the_schema_refuses_criteria_that_no_check_knows(entry: str, accepts: Callable[[str], bool]) -> None:
    assert not accepts(f"{{goal: x, accept: [{entry}]}}")
    assert not accepts(f"{{goal: x, plan: [{{id: a, role: coder, do: x, accept: [{entry}]}}]}}")


# What always holds

_KEYS = [*ScenarioFile.model_fields, "with", "uses", "tools", "id", "role", "do", "needs", "coder", "file", "x", "mcp"]
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["30m", "coder", "${{ inputs.x }}", "./x.py:y", "a:b", "public", "", "\0", "\ud800"]),
)
_ANYTHING = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4)),
    max_leaves=15,
)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(_KEYS), _ANYTHING, max_size=6))
def test_any_mapping_is_a_scenario_or_a_scenario_error(mapping: dict[str, object]) -> None:
    try:
        scenario = Scenario.from_dict(mapping)
    except ScenarioError as error:
        assert all(fault.message for fault in error.faults)  # noqa: PT017 - any other exception fails the test
    else:
        json.dumps(may(scenario))


def test_inputs_cannot_make_a_scenario_of_any_size(folder: Path) -> None:
    text = "goal: " + "${{ inputs.a }}" * 200 + "\ninputs: {a: {}}\n"
    fault = the_fault(text, folder, inputs={"a": "x" * 10_000})
    assert (fault.kind, fault.field) == ("input", "goal")
    assert "1,048,576 characters" in fault.message
    assert not faults_of(text, folder, inputs={"a": "x" * 5_000})
