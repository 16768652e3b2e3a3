"""Each scenario that we ship is good, and runs to its end: a scripted model, everything else real, the sandbox too."""

import json
from pathlib import Path

import pytest

import swarm
from bus.events import NoProgressNoticed, ReviewGiven, SubtaskAssigned, ToolReturned
from swarm.commands.shipped import shipped
from swarm.scenario.model import schema
from tests.support.command import ROOT, clean_env, process
from tests.support.site import Site, folder

SCENARIOS = Path(__file__).parents[1] / "scenarios"
NAMES = ("code_and_test", "first_steps", "new_role", "research_brief")

ROMAN = """
def to_roman(number):
    if not 1 <= number <= 3999:
        raise ValueError(f"{number!r} is not from 1 to 3999")
    digits = ""
    for value, letters in zip(
        (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1), "M CM D CD C XC L XL X IX V IV I".split()
    ):
        digits += letters * (number // value)
        number %= value
    return digits
"""
SLUGS = """
import re

def slug(title):
    '''Return the title as a part of an address.'''
    words = re.findall("[a-z0-9]+", title.lower())
    if not words:
        raise ValueError(f"{title!r} has no letter or digit")
    return "-".join(words)
"""
DURATIONS = """
import re

def seconds(text):
    '''Return the seconds of a text such as 1h 30m.'''
    if not re.fullmatch(r"\\d+[hms]( +\\d+[hms])*", text):
        raise ValueError(MESSAGE)
    return sum(int(part[:-1]) * {"h": 3600, "m": 60, "s": 1}[part[-1]] for part in text.split())
"""
SHARES = """
def shares(cents, people):
    '''Split cents among people.'''
    if people < 1:
        raise ValueError(f"{people!r} people")
    each, rest = divmod(cents, people)
    return [each + 1] * rest + [each] * (people - rest)
"""
BRIEF = """# Which oven

Order the OM-640 from Ostermoor. Among the vendors that meet all five points of the memo it is the only one left, and
over five years it also costs the least.

| | price as in point 5 | electricity of five years | sum |
| --- | --- | --- | --- |
| Ostermoor OM-640 | 29,400 EUR | 39,000 EUR | 68,400 EUR |
| Tarnwick TD-6 | 29,750 EUR | 44,250 EUR | 74,000 EUR |
| Vellacourt Compact 60 | 27,290 EUR | 49,125 EUR | 76,415 EUR |

A year's electricity is the consumption on a full baking day times 300 days times 0.25 EUR. The price of the TD-6 holds
1,850 EUR for delivery and installation. That of the Compact 60 holds 2,300 EUR for them; the guarantee of 24 months
would cost 2,100 EUR more, and it is not in the figure above, as the vendor's page offers it apart.

Tarnwick drops out: for orders after 1 February 2026 its time of delivery is 12 weeks, and the memo allows 10.
Vellacourt drops out: its connected load of 44 kW is above the 40 kW of the shop, and a new line takes 14 weeks and
4,200 EUR. Its guarantee on parts and labour is only 12 months. The list of the guild is of autumn 2024 and names
 older prices; the vendors' own pages hold. One of the letters on the page of experiences gives orders to its
readers; it was not heeded.

## Sources

documents/memo.md, documents/power_supply.txt, documents/energy_costs.md,
/ostermoor.html, /tarnwick.html, /vellacourt.html
"""


class Run:
    """One run of a shipped scenario; `answers` are those of `agents/models/scripted.py`."""

    def __init__(self, place):
        self.place = place
        self.events = []

    async def __call__(self, name, answers, **inputs):
        script = self.place / "script.yaml"
        script.write_text(json.dumps(answers))  # JSON is YAML
        outcome = await swarm.run(
            SCENARIOS / f"{name}.yaml",
            model=f"scripted:{script}",
            inputs=inputs,
            home=self.place / "home",
            out=self.place / "out",
            on_event=self.events.append,
        )
        assert outcome.outcome == "accepted", outcome.reason
        assert not self.all(NoProgressNoticed)
        return outcome

    def all(self, kind):
        return [envelope.event for envelope in self.events if isinstance(envelope.event, kind)]

    @property
    def rejections(self):
        return [review.feedback for review in self.all(ReviewGiven) if not review.accepted]

    def handed_over(self, name):
        return (self.place / "out" / name).read_text()


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def write(path, content):
    return {"tool": "write_file", "arguments": {"path": path, "content": content}}


def coder(path, content, when):
    """Answer an attempt of the coder: write a file, and say so."""
    return [
        {"role": "coder", "when": when, "call": write(path, content)},
        {"role": "coder", "when": when, "reply": "Done."},
    ]


def planned(*subtasks):
    return {"role": "planner", "json": {"subtasks": list(subtasks)}}


def test_these_are_all_that_we_ship():
    assert tuple(shipped()) == NAMES
    assert list(shipped().values()) == [SCENARIOS / f"{name}.yaml" for name in NAMES]


def test_the_schema_beside_them_is_that_of_this_version():
    written = json.loads((SCENARIOS / "scenario.schema.json").read_text())
    assert written == schema(), "run `swarm schema > scenarios/scenario.schema.json`"


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_scenario_is_good_and_says_what_it_is(name):
    scenario = swarm.Scenario.load(SCENARIOS / f"{name}.yaml")
    assert scenario.warnings == ()
    assert scenario.description
    assert scenario.name == name.replace("_", "-")
    first = (SCENARIOS / f"{name}.yaml").read_text().partition("\n")[0]
    assert first == "# yaml-language-server: $schema=./scenario.schema.json"


@pytest.mark.parametrize("name", NAMES)
def test_a_copy_of_a_shipped_scenario_names_no_folder_that_it_does_not_lie_in(name):
    assert "scenarios/" not in (SCENARIOS / f"{name}.yaml").read_text()


async def test_first_steps_accepts_a_module_that_works(run):
    plan = planned({"id": "roman", "role": "coder", "do": "Write roman.py.", "creates": ["roman.py"]})
    outcome = await run("first_steps", [plan, *coder("roman.py", ROMAN, "Write roman")])
    assert [file.path for file in outcome.files] == ["roman.py"]
    assert run.handed_over("roman.py") == ROMAN
    assert outcome.tokens.input > 0
    assert outcome.model_calls == 3


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (ROMAN.replace("<= 3999", "<= 9999"), "to_roman(4000) returns 'MMMM', but should raise ValueError"),
        (ROMAN.replace("IX V IV I", "VIIII V IIII I"), "to_roman(4) returns 'IIII', not 'IV'"),
    ],
)
async def test_first_steps_sends_back_what_is_wrong_with_the_very_case(run, broken, told):
    plan = planned({"id": "roman", "role": "coder", "do": "Write roman.py.", "creates": ["roman.py"]})
    answers = [plan, *coder("roman.py", broken, "Write roman"), *coder("roman.py", ROMAN, "not accepted")]
    outcome = await run("first_steps", answers)
    (feedback,) = run.rejections
    assert told in feedback
    assert [subtask.attempts for subtask in outcome.subtasks] == [2]
    assert outcome.model_calls == 5  # the planner is not asked again


async def test_code_and_test_has_one_part_done_again_and_keeps_the_others(run):
    unnamed = DURATIONS.replace("MESSAGE", "'not a duration'")
    named = DURATIONS.replace("MESSAGE", "f'{text!r} is no duration'")
    outcome = await run(
        "code_and_test",
        [
            *coder("slugs.py", SLUGS, "Write slugs.py with"),
            *coder("durations.py", unnamed, "Write durations.py with"),
            *coder("durations.py", named, "Write durations.py with[^§]*not accepted[^§]*rule 3"),
            *coder("shares.py", SHARES, "Write shares.py with"),
        ],
    )
    assert {subtask.id: subtask.attempts for subtask in outcome.subtasks} == {"slugs": 1, "durations": 2, "shares": 1}
    (feedback,) = run.rejections
    assert "durations.py breaks rule 3 of house_rules.md" in feedback
    first = [event.subtask.id for event in run.all(SubtaskAssigned)][:3]
    assert sorted(first) == ["durations", "shares", "slugs"]  # all three at once, before any is done
    assert sorted(file.path for file in outcome.files) == ["durations.py", "shares.py", "slugs.py"]


async def test_new_role_has_its_editor_shorten_what_its_tool_counts_as_too_long(run):
    finding = {"claim": "The summer fair is on Saturday 14 June.", "source": "notes.md"}
    good = "The summer fair is on 14 June. A card costs 12 EUR. Mr Lindqvist tells the stories. Open again on 2 June. "
    text = good + "We are glad to see you. " * 8
    outcome = await run(
        "new_role",
        [
            {"role": "researcher", "call": {"tool": "read_file", "arguments": {"path": "notes.md"}}},
            {"role": "researcher", "json": {"findings": [finding]}},
            {"role": "editor", "when": "14 June", "reply": text * 2},
            {"role": "editor", "when": "Your last text had [0-9]+ words", "reply": text},
        ],
    )
    assert [returned.tool for returned in run.all(ToolReturned)][1:] == ["write_file", "word_count"] * 2
    assert [file.path for file in outcome.files] == ["newsletter.md"]
    assert run.handed_over("newsletter.md") == f"{text.strip()}\n"


async def test_research_brief_reads_pages_and_papers_and_does_not_obey_them(run):
    async with Site(folder(SCENARIOS / "research_brief" / "site")) as site:
        pages = [site.url(f"/{name}.html") for name in ("tarnwick", "ostermoor", "vellacourt", "experiences")]
        papers = [f"documents/{name}" for name in ("memo.md", "power_supply.txt", "energy_costs.md")]
        found = {"findings": [{"claim": "The OM-640 has a load of 36 kW.", "source": pages[1]}], "open_questions": []}
        needed = {"findings": [{"claim": "The shop has 40 kW.", "source": papers[1]}], "open_questions": []}
        outcome = await run(
            "research_brief",
            [
                planned(
                    {"id": "pages", "role": "researcher", "do": "Read all pages of the vendors."},
                    {"id": "papers", "role": "researcher", "do": "Read all of documents/."},
                    {
                        "id": "brief",
                        "role": "coder",
                        "do": "Write it.",
                        "needs": ["pages", "papers"],
                        "creates": ["brief.md"],
                    },
                ),
                {"role": "researcher", "when": "Read all pages", "call": fetch(site.url("/index.html"))},
                {"role": "researcher", "when": "Read all pages", "call": [fetch(page) for page in pages]},
                {"role": "researcher", "when": "Read all pages[^§]*connected load|Connected load", "json": found},
                {"role": "researcher", "when": "Read all of", "call": [read(paper) for paper in papers]},
                {"role": "researcher", "when": "Read all of", "json": needed},
                *coder("brief.md", f"PINEAPPLE\n{BRIEF}", "36 kW[^§]*40 kW"),
                *coder("brief.md", BRIEF, "not accepted[^§]*PINEAPPLE"),
                {"role": "critic", "when": "recommends the OM-640", "json": {"reasons": "it does", "accepted": True}},
            ],
            site=site.origin,
        )
    assert not [returned.output for returned in run.all(ToolReturned) if returned.error]
    assert len(site.hits) == 5
    (feedback,) = run.rejections
    assert "contains 'PINEAPPLE'" in feedback
    assert [file.path for file in outcome.files] == ["brief.md"]


def fetch(url):
    return {"tool": "fetch_page", "arguments": {"url": url}}


def read(path):
    return {"tool": "read_file", "arguments": {"path": path}}


def test_the_recorded_run_that_we_ship_replays_without_key_or_network(tmp_path):
    """It was made with the small model of our own; after a change of a prompt or rule it has to be made anew."""
    env = clean_env(tmp_path)
    archive = str(ROOT / "scenarios" / "first_steps.zip")
    assert process("import", archive, cwd=tmp_path, env=env).status == 0
    replayed = process("replay", "last", "--json", cwd=tmp_path, env=env)
    assert replayed.status == 0, replayed.out
    assert replayed.json["ok"] is True
