from __future__ import annotations

import enum
import inspect
import warnings
from collections.abc import Callable  # noqa: TC003 - tools need their types at run time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import ModuleType  # noqa: TC003
from typing import Annotated, Any, Literal

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.errors import ToolFailed
from agents.files.project_folder import ProjectFolder
from agents.tool import Tool, ToolContext, tool
from bus.setup import Permissions


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Point(pydantic.BaseModel):
    """A place."""

    x: int
    title: str = ""


@dataclass
class Answer:
    when: date
    tags: set[str]


@tool(effect="reads")
async def everything(  # noqa: PLR0917
    context: ToolContext,
    word: str,
    kind: Literal["a", "b"],
    colour: Colour = Colour.RED,
    day: date | None = None,
    tags: frozenset[str] = frozenset(),
    points: list[Point] = [],  # noqa: B006 - pydantic copies it
    count: Annotated[int, pydantic.Field(ge=1, description="how many")] = 1,
) -> str:
    """Say what came.

    In detail.
    """
    return repr((context.folder.root.name, word, kind, colour, day, sorted(tags), points, count))


@pytest.fixture
def context(tmp_path: Path) -> ToolContext:
    (tmp_path / "project").mkdir()
    return ToolContext(ProjectFolder(tmp_path / "project"), Permissions())


def test_the_schema_is_that_of_the_arguments_without_the_context() -> None:
    schema = everything.schema
    properties: Any = schema.parameters["properties"]
    assert (schema.name, schema.description) == ("everything", "Say what came.\n\nIn detail.")
    assert list(properties) == ["word", "kind", "colour", "day", "tags", "points", "count"]
    assert properties["kind"] == {"enum": ["a", "b"], "type": "string"}
    assert properties["count"] == {"default": 1, "description": "how many", "minimum": 1, "type": "integer"}
    assert schema.parameters["required"] == ["word", "kind"]
    assert schema.parameters["additionalProperties"] is False


def test_titles_that_nobody_wrote_are_dropped_but_an_argument_may_be_called_title() -> None:
    @tool(effect="reads")
    async def make(title: str, points: dict[str, Point]) -> str:
        """Make it."""
        return title + str(points)

    schema: Any = make.schema.parameters
    assert schema["properties"]["title"] == {"type": "string"}
    assert "title" not in schema
    assert schema["$defs"]["Point"] == {
        "description": "A place.",
        "properties": {"x": {"type": "integer"}, "title": {"default": "", "type": "string"}},
        "required": ["x"],
        "type": "object",
    }


async def test_a_tool_gets_its_context_and_its_arguments_in_their_types(context: ToolContext) -> None:
    arguments: dict[str, Any] = {
        "word": "hi",
        "kind": "b",
        "colour": "blue",
        "day": "2026-01-31",
        "tags": ["y", "x"],
        "points": [{"x": 1}],
    }
    assert await everything.run(arguments, context) == (
        "('project', 'hi', 'b', <Colour.BLUE: 'blue'>, datetime.date(2026, 1, 31), ['x', 'y'], "
        "[Point(x=1, title='')], 1)"
    )
    checked = everything.validate(arguments)
    assert checked == {**arguments, "tags": checked["tags"]}  # in JSON's types, and no default among them
    assert await everything.run(checked, context) == await everything.run(arguments, context)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"word": "a"}, "'kind' is missing"),
        ({}, "'word' is missing; 'kind' is missing"),
        ({"word": "a", "kind": "c"}, "'kind': Input should be 'a' or 'b'"),
        ({"word": 1, "kind": "a"}, "'word': Input should be a valid string"),
        ({"word": "a", "kind": "a", "wrod": "b"}, "'wrod': there is no such argument (known: word, kind, colour"),
        ({"word": "a", "kind": "a", "context": {}}, "'context': there is no such argument"),
        ({"word": "a", "kind": "a", "argument_1": "x"}, "'argument_1': there is no such argument"),
        ({"word": "a", "kind": "a", "count": 0}, "'count': Input should be greater than or equal to 1"),
        ({"word": "a", "kind": "a", "points": [{"x": "z"}]}, "'points.0.x': Input should be a valid integer"),
        ({"word": "a", "kind": "a", **{f"a{n}": n for n in range(50)}}, "and 40 more"),
    ],
    ids=range(10),
)
async def test_wrong_arguments_are_named_in_words_and_nothing_is_run(
    context: ToolContext, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(ToolFailed, match="everything was not run") as failed:
        everything.validate(arguments)
    assert says in str(failed.value)
    assert len(str(failed.value)) < 2_000
    with pytest.raises(ToolFailed, match="everything was not run"):
        await everything.run(arguments, context)


async def test_an_argument_may_have_any_name(context: ToolContext) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        @tool(effect="reads")
        async def odd(schema: str, model_config: int, model_dump: int, copy: bool, _x: int, json: list[int]) -> str:  # noqa: FBT001
            """Take odd names."""
            return f"{schema} {model_config} {model_dump} {copy} {_x} {json}"

    arguments: dict[str, Any] = {
        "schema": "s",
        "model_config": 1,
        "model_dump": 2,
        "copy": True,
        "_x": 3,
        "json": [4],
    }
    assert list(odd.schema.parameters["properties"]) == list(arguments)  # type: ignore[arg-type]
    assert odd.validate(arguments) == arguments
    assert await odd.run(arguments, context) == "s 1 2 True 3 [4]"


async def test_arguments_may_be_keyword_only_and_a_tool_may_have_none(context: ToolContext) -> None:
    @tool(effect="reads")
    async def keyword(*, flag: bool = False) -> bool:
        """Give it back."""
        return flag

    @tool(effect="reads")
    async def nothing() -> None:
        """Do nothing."""

    assert await keyword.run({"flag": True}, context) == "true"
    assert await nothing.run({}, context) == "null"
    assert nothing.schema.parameters["properties"] == {}


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("text as it is", "text as it is"),
        (3, "3"),
        ([1, {"a": None}], '[1,{"a":null}]'),
        (Answer(date(2026, 1, 31), {"x"}), '{"when":"2026-01-31","tags":["x"]}'),
        ([Point(x=1)], '[{"x":1,"title":""}]'),
        (Colour.RED, '"red"'),
        ({"p": Path("a")}, '{"p":"a"}'),
    ],
)
async def test_an_answer_that_is_no_text_becomes_json(context: ToolContext, result: object, text: str) -> None:
    @tool(effect="reads")
    async def give() -> object:
        """Give it."""
        return result

    assert await give.run({}, context) == text


async def test_an_answer_that_json_does_not_have_is_the_tools_error(context: ToolContext) -> None:
    ring: list[object] = []
    ring.append(ring)

    @tool(effect="reads")
    async def give(ends: bool) -> object:  # noqa: FBT001
        """Give it."""
        return [object()] if ends else ring

    with pytest.raises(TypeError, match=r"^what it returned \(list\) is no JSON: Unable to serialize"):
        await give.run({"ends": True}, context)
    with pytest.raises(TypeError, match=r"^what it returned \(list\) is no JSON: .*Circular"):
        await give.run({"ends": False}, context)


async def test_what_a_tool_says_went_wrong_passes_through(context: ToolContext) -> None:
    @tool(effect="reads")
    async def fail() -> str:
        """Fail."""
        raise ToolFailed("no such thing")

    with pytest.raises(ToolFailed, match=r"^no such thing$"):
        await fail.run({}, context)


@given(
    effect=st.sampled_from(["reads", "folder", "outward", None]),
    network=st.none() | st.booleans(),
    idempotent=st.booleans(),
    needs_approval=st.none() | st.booleans(),
)
def test_what_is_not_said_is_taken_for_the_worst(
    effect: Any,
    network: bool | None,  # noqa: FBT001
    idempotent: bool,  # noqa: FBT001
    needs_approval: bool | None,  # noqa: FBT001
) -> None:
    @tool(effect=effect, network=network, idempotent=idempotent, needs_approval=needs_approval)
    async def act() -> None:
        """Act."""

    outward = effect in ("outward", None)
    assert act.effect == (effect or "outward")
    assert act.network == (outward if network is None else network)
    assert act.needs_approval == ((effect is None) if needs_approval is None else needs_approval)
    assert act.idempotent == (idempotent or not outward)


def test_a_tool_may_have_another_name_than_its_function() -> None:
    assert tool(effect="reads", name="other-name")(everything.function).schema.name == "other-name"


async def untyped(word, /) -> None:  # type: ignore[no-untyped-def]
    """Take anything."""


async def untyped_too(word) -> None:  # type: ignore[no-untyped-def]
    """Take anything."""


async def callback(use: Callable[[], None]) -> None:
    """Call it."""


async def module(use: ModuleType) -> None:
    """Use it."""


async def many(*words: str) -> None:
    """Take many."""


async def unknown(word: NotImported) -> None:  # type: ignore[name-defined]  # noqa: F821
    """Take it."""


async def silent(word: str) -> None:
    pass


async def größe(word: str) -> None:  # noqa: PLC2401
    """Measure."""


def waits_not(word: str) -> None:
    """Not asynchronous."""


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (untyped, "called by keywords"),
        (many, "called by keywords"),
        (untyped_too, "'word' of untyped_too has no type"),
        (callback, "'use' of callback: .* cannot be given as JSON"),
        (module, "'use' of module: .* cannot be given as JSON"),
        (unknown, "'NotImported' is not defined.*TYPE_CHECKING"),
        (silent, "silent has no docstring"),
        (größe, "no name that models take"),
        (waits_not, "wants an async function; waits_not is not one"),
    ],
)
def test_a_function_that_can_be_no_tool_is_refused_when_it_is_made(function: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        tool(effect="reads")(function)


def test_a_tool_without_parentheses_is_told_by_its_name_what_to_write() -> None:
    async def word_count(path: str) -> int:
        """Count words."""
        return len(path)

    with pytest.raises(TypeError, match=r"word_count stands @tool alone: write @tool\(effect="):
        tool(word_count)


def test_a_tool_is_a_frozen_value() -> None:
    assert isinstance(everything, Tool)
    assert inspect.iscoroutinefunction(everything.function)
    with pytest.raises(AttributeError):
        everything.name = "other"  # type: ignore[misc]
