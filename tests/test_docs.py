"""The pages that are made from the code are up to date, and what they add to the code is true."""

import builtins
import inspect
import json
import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest

import bus.events
import bus.setup
import swarm
from agents.completions.weights import WEIGHTS
from agents.roles import ROLES
from agents.tools import TOOLS
from bus.events import EVENTS
from bus.setup import Limits, Subtask
from swarm.scenario.model import Scenario
from swarm.scenario.units import parse_count, parse_duration
from tests.support import reference
from tests.support.class_source import class_nodes, doc_of, fields_of
from tests.support.command import in_this_process
from tests.support.distributions import closure
from tests.support.simulation import Simulation, setup_of
from tests.support.third_party import EXTRAS

ROOT = Path(__file__).parents[1]
LINKED = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@pytest.mark.parametrize("path", reference.pages(), ids=lambda path: path.name)
def test_a_page_made_from_the_code_is_up_to_date(path):
    assert path.read_text() == reference.pages()[path], "run `make docs`"


def test_every_event_has_its_story_and_every_field_a_meaning():
    assert set(reference.STORIES) == set(EVENTS)
    for module in (bus.events, bus.setup):
        for name, node in class_nodes(module).items():
            told = doc_of(node)
            assert told, f"{name} has no docstring"
            missing = [field.name for field in fields_of(node) if not reference.meaning(field, told)]
            assert not missing, f"{name}: {missing} need a docstring below them"


def test_no_field_on_a_page_is_without_meaning():
    for path, text in reference.pages().items():
        assert "|  |" not in text, path.name


def test_meanings_that_hold_everywhere_are_of_fields_that_are_there():
    modules = [bus.events, bus.setup, *reference.OF_ROLES]
    names = {field.name for module in modules for node in class_nodes(module).values() for field in fields_of(node)}
    assert set(reference.EVERYWHERE) <= names


def test_the_path_of_a_file_is_not_told_as_a_place_in_a_roles_code():
    for module in (bus.events, bus.setup):
        for name, node in class_nodes(module).items():
            for field in fields_of(node):
                if reference.meaning(field, doc_of(node)) == reference.EVERYWHERE["path"]:
                    assert field.type == "Path", f"{name}.{field.name}"


def test_the_limits_of_the_page_on_scenarios_are_the_defaults():
    page = (ROOT / "docs/scenario.md").read_text().partition("## `limits`")[2].partition("\n## ")[0]
    told = dict(re.findall(r"^\| `(\w+)` \|.*Left out: ([\w ]+)\. \|$", page, re.MULTILINE))
    limits = Limits()
    assert (parse_duration(told.pop("time")), told.pop("money")) == (limits.time_ms, "no limit")
    rest = limits.model_dump(exclude={"time_ms", "money"})
    assert {name: parse_count(one) for name, one in told.items()} == rest


def test_the_page_on_scenarios_names_every_role_and_tool_that_is_there():
    page = (ROOT / "docs/scenario.md").read_text()
    assert not [name for name in (*ROLES, *TOOLS) if f"| `{name}` |" not in page]


class Watched(Simulation):
    """A simulated run that notes which event was decided right after which."""

    def __post_init__(self):
        super().__post_init__()
        self.followed = defaultdict(set)
        self.sent = set()

    def send(self, event, subject=None, cause=None):
        before = len(self.log)
        verdict = super().send(event, subject, cause)
        new = [type(envelope.event).__name__ for envelope in self.log[before:]]
        self.sent.update(new[:1])
        for one, then in pairwise(new):
            self.followed[one].add(then)
        return verdict


@pytest.fixture(scope="module")
def runs():
    """Runs that meet every end: enough of everything, few tokens, few attempts."""
    runs = []
    for seed in range(12):
        tokens = (10_000_000, 20_000, 60_000)[seed % 3]
        limits = Limits(tokens=tokens, subtasks=400, parallel=64, attempts=2 + seed % 4, rounds=2 + seed % 5)
        plan = (Subtask(id="a", role="coder", instruction="x", accept=({"file": "a"},)),) if seed % 4 == 0 else None
        runs.append(Watched(setup_of(limits=limits, plan=plan), seed, faults=(0.2, 0.5, 0.05)[seed % 3]))
        runs[-1].run()
    return runs


def test_what_follows_an_event_in_a_run_is_what_its_page_says(runs):
    followed = defaultdict(set)
    for run in runs:
        for name, followers in run.followed.items():
            followed[name] |= followers
    assert len(followed) > 12
    for name, followers in followed.items():
        said = set(re.findall(r"`(\w+)`", reference.STORIES[name].then)) | set(reference.ALWAYS)
        assert followers <= said, f"after {name}"


def test_what_only_the_rules_cause_is_sent_by_nobody(runs):
    sent = set().union(*(run.sent for run in runs))
    by_rules = {name for name, story in reference.STORIES.items() if story.by == reference.RULES}
    assert len(sent) > 10
    assert not sent & by_rules


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    for target in LINKED.findall(page.read_text()):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_the_planner_and_the_critic_of_the_page_on_roles_do_a_run(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"^```\w+ (\S+)\n(.*?)^```$", (ROOT / "docs/roles.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "notes").mkdir()
    for name, text in [*blocks, ("notes/a.md", "The T-12."), ("notes/b.md", "12 weeks.")]:
        (tmp_path / name).write_text(text)
    found = {"findings": [{"claim": "T-12", "source": "a.md"}], "open_questions": []}
    drafts = [("report.md", "TODO"), ("report.md", "The T-12, in 12 weeks.")]
    answers = [
        *[{"role": "researcher", "json": found} for _ in range(2)],
        *[
            one
            for path, content in drafts
            for one in (
                {"role": "coder", "call": {"tool": "write_file", "arguments": {"path": path, "content": content}}},
                {"role": "coder", "reply": "It is written."},
            )
        ],
    ]
    (tmp_path / "answers.yaml").write_text(json.dumps(answers))
    swarm = in_this_process(tmp_path, monkeypatch, capsys)
    ended = swarm("run", "digest.yaml", "--trust", "--quiet", "--model", "scripted:answers.yaml", "--json")
    assert ended.json["outcome"] == "accepted", ended.err
    assert "report.md has a TODO" in swarm("log", "last", "--type", "ReviewGiven").out
    assert swarm("replay", "last").status == 0


def test_files_that_the_architecture_names_are_there():
    text = (ROOT / "docs/architecture.md").read_text()
    named = set(re.findall(r"`((?:bus|agents|swarm|tests|scenarios|benchmarks|docs)/[\w./]*)`", text))
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert len(named) > 20
    assert not missing


def test_every_package_of_ours_stands_in_the_architecture():
    text = (ROOT / "docs/architecture.md").read_text()
    packages = {
        init.parent.relative_to(ROOT).as_posix()
        for name in ("bus", "agents", "swarm")
        for init in ROOT.glob(f"{name}/**/__init__.py")
    }
    assert not sorted(package for package in packages if f"`{package}/" not in text)


def test_every_distribution_that_comes_with_us_is_named_with_a_licence():
    rows = dict(re.findall(r"^\| ([\w.-]+) \| (.+) \|$", (ROOT / "THIRD_PARTY.md").read_text(), re.MULTILINE))
    installed = closure("eventswarm", frozenset(EXTRAS)) - {"eventswarm"}
    assert len(installed) >= 30
    assert not sorted(installed - set(rows)), "run `python -m tests.support.third_party`"
    assert "not said" not in rows.values()


def test_all_weights_that_we_fetch_are_named_with_their_licence():
    text = (ROOT / "THIRD_PARTY.md").read_text()
    assert not [one.file for one in WEIGHTS.values() if f"| {one.file} | {one.licence} |" not in text]


def yaml_of(page: str) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "docs" / page).read_text(), re.MULTILINE | re.DOTALL)


def test_the_scenario_of_the_page_is_good(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "editor.py").write_text("class Editor: ...\n")
    (tmp_path / "brief.yaml").write_text(yaml_of("scenario.md")[0])
    scenario = Scenario.load(tmp_path / "brief.yaml")
    assert (scenario.limits.tokens, len(scenario.accept)) == (150_000, 2)
    assert "at most 200 words" in scenario.goal


async def test_the_answers_of_the_page_bring_a_run_to_its_end(tmp_path):
    (tmp_path / "answers.yaml").write_text(yaml_of("scenario.md")[1])
    outcome = await swarm.run(
        {"goal": "Write notes.md.", "accept": [{"file": "notes.md"}]},
        model=f"scripted:{tmp_path / 'answers.yaml'}",
        home=tmp_path,
        out=tmp_path / "out",
    )
    assert outcome.outcome == "accepted", outcome.reason


def test_what_a_role_is_told_of_comes_with_import_swarm():
    page = (ROOT / "docs/roles.md").read_text()
    raised = {
        name for said in re.findall(r"Raises (.*?)\.\s", page, re.DOTALL) for name in re.findall(r"`(\w+)`", said)
    }
    given = set(re.findall(r"^`([A-Z]\w+)`: ", page, re.MULTILINE))
    assert {"AnswerUnusable", "ToolRefused", "Reply"} <= raised | given
    assert {name for name in raised | given if not hasattr(builtins, name)} <= set(swarm.__all__)


@pytest.mark.parametrize("function", [swarm.run, swarm.resume, swarm.open_log])
def test_what_a_program_may_annotate_comes_with_import_swarm(function):
    named = str(inspect.signature(inspect.unwrap(function)))
    ours = set(re.findall(r"\b(?:swarm|agents|bus)\.[\w.]*?([A-Z]\w+)", named))
    assert ours <= set(swarm.__all__)
