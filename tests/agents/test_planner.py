"""How the planner's answer becomes a plan."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.briefing import Finding, Offer
from agents.roles.planner import (
    Planned,
    as_accepted,
    as_subtask,
    one_a_file,
    plan_of,
    useful,
    with_named_files,
    without_impossible_files,
)
from bus.setup import Subtask
from swarm.core.plan import find_cycle

READER = Offer("researcher", "reads files", ("read_file", "list_files", "search_files"))
FETCHER = Offer("scout", "reads pages", ("fetch_page", "read_file"))
WRITER = Offer("coder", "writes files", ("read_file", "write_file"))
THINKER = Offer("poet", "thinks", ())


def planned(name: str, creates: str = "", needs: str = "", role: str = "coder", do: str = "") -> Planned:
    return Planned(id=name, role=role, creates=creates.split(), needs=needs.split(), do=do or f"Do {name}.")


def test_who_can_only_read_files_is_offered_where_there_are_some() -> None:
    offers = (READER, FETCHER, WRITER, THINKER)
    assert tuple(useful(offers, files=True)) == offers
    assert list(useful(offers, files=False)) == [FETCHER, WRITER, THINKER]
    assert tuple(useful((READER,), files=False)) == (READER,)  # better one that may find nothing than none


def test_no_file_is_asked_of_a_role_that_can_write_none() -> None:
    plan = [planned("a", "x.md", role="researcher"), planned("b", "x.md"), planned("c", "c.md", role="poet")]
    plan = without_impossible_files(plan, (READER, WRITER, THINKER))
    assert [one.creates for one in plan] == [[], ["x.md"], ["c.md"]]  # a role without tools may write by itself


def test_subtasks_that_would_write_one_file_become_one() -> None:
    plan = one_a_file([planned("a", "x.py"), planned("b", "x.py y.py", "a c"), planned("c"), planned("d", "z.py", "b")])
    assert [(one.id, one.creates, one.needs) for one in plan] == [
        ("a", ["x.py", "y.py"], ["c"]),
        ("c", [], []),
        ("d", ["z.py"], ["a"]),
    ]
    assert plan[0].do == "Do a.\nDo b."


def test_what_mends_a_file_after_others_have_read_it_stays_apart() -> None:
    plan = [planned("code", "a.py"), planned("audit", needs="code"), planned("fix", "a.py", "audit")]
    assert one_a_file(plan) == plan
    assert one_a_file([plan[2], plan[1], plan[0]]) == [plan[2], plan[1], plan[0]], "in whatever order they are told"


def test_a_subtask_that_only_goes_on_with_a_file_is_one_with_what_it_needs() -> None:
    plan = one_a_file([planned("a", "x.py"), planned("b", "x.py", "a"), planned("c", needs="b")])
    assert [(one.id, one.needs) for one in plan] == [("a", []), ("c", ["a"])]


def test_what_is_accepted_stays_and_who_writes_its_file_goes_on_from_it() -> None:
    done, other = planned("code", "a.py"), planned("tests", "b.py", "code")
    plan = one_a_file(
        [done, other, planned("fix", "a.py", "code"), planned("more", "b.py")], {"code": ["a.py"], "tests": ["b.py"]}
    )
    assert plan[:2] == [done, other]
    assert [(one.id, one.creates, one.needs) for one in plan[2:]] == [
        ("fix", ["a.py"], ["code"]),
        ("more", ["b.py"], ["tests"]),
    ]


@given(st.lists(st.tuples(st.sampled_from(["", "x.py", "y.py", "x.py y.py"]), st.sets(st.integers(1, 7))), max_size=8))
def test_joining_never_makes_a_circle(drawn: list[tuple[str, set[int]]]) -> None:
    """Each needs some of those that many places before it."""
    plan = [
        planned(f"t{at}", creates, " ".join(f"t{at - back}" for back in sorted(needs) if back <= at))
        for at, (creates, needs) in enumerate(drawn)
    ]
    joined = one_a_file(plan)
    assert not find_cycle(Subtask(id=one.id, role=one.role, instruction=one.do, needs=(*one.needs,)) for one in joined)
    assert {path for one in joined for path in one.creates} == {path for one in plan for path in one.creates}


def test_subtasks_that_share_a_name_are_joined_by_their_files_alone() -> None:
    plan = one_a_file([planned("k", "x.py"), planned("a", "y.py"), planned("a", "x.py"), planned("a", "y.py")])
    assert [(one.id, one.creates) for one in plan] == [("k", ["x.py"]), ("a", ["y.py"])]


def test_what_several_roles_write_into_a_file_in_turn_stays_apart() -> None:
    plan = [planned("a", "x.md"), planned("b", "x.md", "a", role="editor")]
    assert one_a_file(plan) == plan


@pytest.mark.parametrize("do", ["", "Write  notes.md\n"])
def test_an_accepted_subtask_that_a_plan_has_again_is_to_the_letter_what_it_was(do: str) -> None:
    before = Finding("notes", "coder", "Write notes.md\n", "")
    assert as_accepted(Planned(id="notes", role="coder", do=do), before).do == "Write notes.md\n"
    for other in (planned("notes"), Planned(id="notes", role="poet", do=do)):
        assert as_accepted(other, before) == other
    assert as_accepted(planned("notes"), None) == planned("notes")


def test_a_check_that_there_is_not_is_told_where_the_plan_can_still_be_mended() -> None:
    with pytest.raises(ValueError, match=r"'min_word' is unknown .* Did you mean 'min_words'\?"):
        Planned(id="a", role="coder", do="", accept=[{"text": "a.md", "min_word": 3}])


def test_the_schema_of_a_plan_names_the_roles_and_the_most_subtasks() -> None:
    schema = str(plan_of(("coder", "poet"), 5).model_json_schema())
    assert "'enum': ['coder', 'poet']" in schema
    assert "'maxItems': 5" in schema


def test_a_plan_may_have_checks_and_models_are_told_of_them_where_they_can_make_use_of_them() -> None:
    entry = {"text": "a.md", "contains": ["zebra"]}
    data = {
        "subtasks": [{"id": "a", "role": "coder", "do": "x", "creates": ["a.md", "a.md"], "accept": [entry, entry]}]
    }
    untold, told, alone = (plan_of(("coder",), 5, runners=runners) for runners in (None, ("coder",), ()))
    for kind in (untold, told, alone):
        (one,) = kind.model_validate(data).subtasks
        assert as_subtask(one).accept == ({"file": "a.md"}, entry)
    assert ["accept" in str(kind.model_json_schema()) for kind in (untold, told, alone)] == [False, True, True]
    assert ['"run"' in str(kind.model_json_schema()) for kind in (told, alone)] == [True, False]


def test_checks_follow_their_subtasks() -> None:
    entry, ask = {"text": "x.md"}, {"ask": "It is so."}
    one, other = (planned(name, "x.md").model_copy(update={"accept": [entry, ask]}) for name in ("a", "b"))
    assert one_a_file([one, other])[0].accept == [entry, ask, entry, ask]
    reader = one.model_copy(update={"role": "researcher"})
    assert without_impossible_files([reader], (READER, WRITER))[0].accept == [ask]


@pytest.mark.parametrize(
    ("do", "creates"),
    [
        ("Write roman.py with a function to_roman(number).", ["roman.py"]),
        ("Create the file `docs/notes.md` from the findings.", ["docs/notes.md"]),
        ("Write a module stats.py: mean and median.", ["stats.py"]),
        ("List what stands in report.md.", []),
        ("Write the letter from report.md.", []),
        ("Write 3.5 pages about ovens.", []),
    ],
)
def test_a_file_that_a_subtask_begins_by_naming_is_one_that_it_creates(do, creates):
    one = Planned(id="it", role="coder", do=do)
    assert with_named_files([one])[0].creates == creates
    kept = one.model_copy(update={"creates": ["other.txt"]})
    assert with_named_files([kept])[0].creates == ["other.txt"], "what the planner said counts"
