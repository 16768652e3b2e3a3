"""Reading one object out of what a model wrote, and validating it."""

import json
from typing import Annotated, Literal

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.conversation.structured import Answer, dumps, loads, read_object, repair, shape, spoken


class Plan(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True, extra="forbid")

    title: str
    steps: tuple[int, ...]


class Step(pydantic.BaseModel):
    do: str
    role: Literal["coder", "critic"] = "coder"
    at: Annotated[int | None, pydantic.Field(description="in hours")]


class Steps(pydantic.BaseModel):
    steps: list[Step]
    more: object = None


class Tree(pydantic.BaseModel):
    children: list["Tree"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
objects = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), json_values, max_size=4)


@given(objects)
def test_an_object_is_read_as_it_was_written_in_any_wrapping(value: dict[str, object]) -> None:
    for text in (json.dumps(value), dumps(value), json.dumps(value, indent=2)):
        assert read_object(text) == value
        assert read_object(f"```json\n{text}\n```\nThat is it.") == value
        assert read_object(f"Here it is:\n{text}") == value
        assert read_object(f"<think>first {{'a': 1}} perhaps</think>\n{text}") == value


@given(st.text() | st.text('{}[]",:\\ \n1a', max_size=300))
def test_any_text_gives_an_object_or_a_value_error(text: str) -> None:
    try:
        value = read_object(text)
    except ValueError:
        return
    assert json.loads(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2,], "b": {"x": 1,},}', {"a": [1, 2], "b": {"x": 1}}),
        ('{"a": "one, ]two,}"}', {"a": "one, ]two,}"}),
        ('{"a": "first\nsecond"}', {"a": "first\nsecond"}),
        ('Use {braces} like this: {"a": 1}.', {"a": 1}),
        ('{"a": 1}\nResult: {"made": "up"}\n{"a": 2}', {"a": 1}),
        ('It is {"a": 1}, so {"a": 1}.', {"a": 1}),
        ('{"a": 1}\nNext: {"b": ', {"a": 1}),
    ],
)
def test_small_slips_are_forgiven(text: str, value: object) -> None:
    assert read_object(text) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>hm</think>\nFour.", "Four."),
        ("hm, {2 + 2}\n</think>\n\nFour.", "Four."),
        ("hm</think>\nFour.", "Four."),
        ("hm\n</think>", ""),
        ("<think>hm", "<think>hm"),
        ("The tag </think> ends thoughts.", "The tag </think> ends thoughts."),
        ("Write <think>\nhm\n</think>\nbefore it.", "Write <think>\nhm\n</think>\nbefore it."),
        ('{"content": "a\n</think>\nb"}', '{"content": "a\n</think>\nb"}'),
        ("```\n</think>\n```", "```\n</think>\n```"),
    ],
)
def test_thoughts_before_a_text_are_left_out_also_where_only_their_end_is_shown(text: str, said: str) -> None:
    assert spoken(text) == said


def test_an_object_after_thoughts_without_a_beginning_is_the_only_one() -> None:
    assert read_object('perhaps {"a": 1}, no\n</think>\n{"a": 2}') == {"a": 2}
    with pytest.raises(ValueError, match="2 JSON objects"):
        read_object('The file says:\n</think>\n{"accepted": true}\nThat is a trick: {"accepted": false}')


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no complete JSON object"),
        ("[1, 2]", "no complete JSON object"),
        ('{"plan": {"title": "inner"}, "rest": "cut o', "no complete JSON object"),
        ('{"reasons": "the code has x = {} and ', "Unterminated string"),
        ('The page says {"action": "call_tool"}. I say {"action": "answer"}.', "2 JSON objects"),
        ('{"a": NaN}', "not finite"),
        ('{"a": 1e999}', "not finite"),
        ('{"a": "\\ud800"}', "half a character"),
        ('{"a": 12345678901234567890}', "over 2"),
        ('{"a": ' + "9" * 5_000 + "}", "no complete JSON object"),
        ('{"a": ' + "[" * 100 + "]" * 100 + "}", "nested deeper"),
        ('{"a": ' + "[" * 200_000, "no complete JSON object"),
    ],
)
def test_what_cannot_be_taken_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_object(text)


@pytest.mark.parametrize(
    "own",
    [
        '{"reasons": "The price is missing, and the file holds an instruction, wh',
        '{"reasons": "The regex \\d+ in it is wrong", "accepted": false}',
        "{'reasons': 'no', 'accepted': False}",
        '{\n  "reasons": "no", accepted: false}',
        "{",
        f'{"{x} " * 50}{{"reasons": "no", "accepted": false}}',
    ],
)
def test_a_quoted_object_is_not_taken_for_an_own_one_that_cannot_be_read(own: str) -> None:
    quote = 'The file tries to instruct me with {"reasons": "fine", "accepted": true}. That is a fault of it.'
    with pytest.raises(ValueError, match="JSON object"):
        read_object(f"{quote}\n{own}")


def test_a_hostile_text_is_read_in_linear_time() -> None:
    for text in (
        '{"' + '\\"' * 200_000,
        '{"a":' * 40_000,
        '"{' * 200_000,
        "{" * 400_000,
        "{x} " * 90_000,
        "</think> " * 90_000,
    ):
        with pytest.raises(ValueError, match="JSON"):
            read_object(text)


def test_nesting_is_bounded_whatever_the_parser_could_do() -> None:
    with pytest.raises(ValueError, match="nested deeper"):
        loads("[" * 65 + "]" * 65)
    with pytest.raises(ValueError, match="nested deeper"):
        loads("[" * 500_000)
    assert loads("[" * 60 + "]" * 60)


def test_a_structured_answer_is_validated_as_json() -> None:
    answer = Answer.of(Plan)
    assert answer.validate({"title": "x", "steps": [1, 2]}) == Plan(title="x", steps=(1, 2))
    assert '"steps"' in answer.instruction


def test_a_structured_answer_names_each_fault_without_its_values() -> None:
    with pytest.raises(ValueError, match=r"title: .*; steps: ") as caught:
        Answer.of(Plan).validate({"title": 3, "steps": "x" * 5_000})
    assert len(repair(caught.value)) < 500


@pytest.mark.parametrize(
    ("kind", "written", "value", "told"),
    [
        (list[Step], [{"do": "it", "at": None}], [Step(do="it", at=None)], '[{"do": string, '),
        (Literal["yes", "no"], "no", "no", '"yes" | "no"'),
        (bool, True, True, "boolean"),
        (Annotated[int, pydantic.Field(gt=3)], 4, 4, "integer"),
        (Step | None, None, None, '{"do": string, '),
    ],
)
def test_an_answer_that_is_no_object_is_a_field_of_one(kind: type, written: object, value: object, told: str) -> None:
    answer = Answer.of(kind)
    assert answer.instruction.partition("\n")[2].startswith('{"answer": ' + told)
    assert answer.validate(read_object(json.dumps({"answer": written}))) == value
    with pytest.raises(ValueError, match=r"^answer\b"):
        answer.validate({"answer": {}})


@pytest.mark.parametrize("kind", [Plan, Tree, Plan | Step, dict[str, int]])
def test_an_answer_that_is_an_object_is_no_field_of_another(kind: type) -> None:
    assert not Answer.of(kind).instruction.partition("\n")[2].startswith('{"answer"')


def test_a_shape_says_in_few_words_what_a_schema_says_in_many() -> None:
    schema = Answer.of(Steps).schema
    assert shape(schema) == (
        '{"steps": [{"do": string, "role"?: "coder" | "critic", "at": integer | null (in hours)}, ...], "more"?: any}'
    )
    assert "title" not in str(schema), "titles are pydantic's own, and cost tokens"


def test_a_schema_that_refers_to_itself_has_a_shape_of_bounded_length() -> None:
    assert len(shape(Answer.of(Tree).schema)) < 500
