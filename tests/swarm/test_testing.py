import asyncio
from typing import ClassVar

import pytest

from bus.events import ModelAnswered, ToolReturned
from swarm import (
    Context,
    ResultSubmitted,
    ReviewGiven,
    ReviewRequested,
    Role,
    SubtaskAssigned,
    ToolContext,
    ToolFailed,
    tool,
)
from swarm.testing import Finding, try_role


@tool(effect="reads")
async def count_words(path: str, context: ToolContext) -> int:
    """Count the words of a text file of the project."""
    return len(context.folder.read_text(path).split())


class Writer(Role[SubtaskAssigned, ResultSubmitted]):
    """Writes what it is told."""

    name: ClassVar[str] = "writer"
    handles: ClassVar[type] = SubtaskAssigned
    tools: ClassVar[tuple[str, ...]] = ("write_file",)

    async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
        facts = "; ".join(finding.text for finding in ctx.findings)
        draft = await ctx.converse("You write.", f"{request.subtask.instruction} {facts} {' '.join(request.feedback)}")
        await ctx.call_tool("write_file", path="out.md", content=draft.text)
        return ctx.result(draft.text, files=["out.md"])


async def test_a_role_is_tried_with_a_scripted_model():
    facts = Finding("facts", "researcher", "find", "water is wet")
    script = [{"when": "water is wet", "reply": "Water is wet."}]
    tried = await try_role(Writer(), "Write.", script=script, findings=[facts], files={"notes.md": b"x"})
    assert tried.files == {"out.md": b"Water is wet."}
    assert tried.result.text == "Water is wet."
    assert [change.path for change in tried.result.files] == ["out.md"]
    assert [type(effect).__name__ for effect in tried.effects] == [
        "ModelAsked", "ModelAnswered", "ToolCalled", "ToolReturned",
    ]  # fmt: skip


async def test_a_tool_of_ones_own_is_tried_through_a_role():
    class Counter(Writer):
        """Counts."""

        async def handle(self, _request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
            return ctx.result(await ctx.call_tool("count_words", path="notes.md"))

    tried = await try_role(Counter(), "Count.", files={"notes.md": b"one two three"}, tools=[count_words])
    assert tried.result.text == "3"
    assert isinstance(tried.effects[-1], ToolReturned)
    assert not any(isinstance(effect, ModelAnswered) for effect in tried.effects)
    with pytest.raises(ToolFailed, match=r"no file 'notes\.md'"):
        await try_role(Counter(), "Count.", tools=[count_words])


async def test_a_role_that_is_tried_is_held_to_what_a_run_holds_it_to():
    class Odd(Writer):
        async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
            match request.subtask.instruction:
                case "nothing":
                    return None  # type: ignore[return-value]
                case "long":
                    return ctx.result("x" * 100_000)
            left = asyncio.create_task(ctx.call_tool("write_file", path="out.md", content="x"))
            left.cancel()
            return ctx.result(await left)

    for instruction, error, said in (
        ("nothing", ToolFailed, "answered NoneType where ResultSubmitted is wanted"),
        ("long", ToolFailed, "put long results into a file"),
        ("race", RuntimeError, "a task that was cancelled"),
    ):
        with pytest.raises(error, match=said):
            await try_role(Odd(), instruction)


def test_a_role_whose_tools_are_one_text_is_refused_when_it_is_made():
    with pytest.raises(TypeError, match=r"^Quick\.tools is one text: write a tuple, \('write_file',\)$"):

        class Quick(Writer):
            tools = "write_file"  # type: ignore[assignment]


async def test_paths_and_tools_are_not_given_as_one_text():
    class Careless(Writer):
        async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
            if request.subtask.instruction == "Say.":
                await ctx.converse("You write.", "Write.", tools="write_file")
            return ctx.result("done", files="out.md")

    with pytest.raises(TypeError, match=r"^files is one text: write a list, \['out\.md'\]$"):
        await try_role(Careless(), "Write.")
    with pytest.raises(TypeError, match=r"^tools is one text: write a list, \['write_file'\]$"):
        await try_role(Careless(), "Say.")


async def test_what_no_run_would_take_of_a_role_is_refused_as_there():
    class Strict(Role[ReviewRequested, ReviewGiven]):
        name = "critic"
        handles = ReviewRequested

        async def handle(self, request: ReviewRequested, _ctx: Context) -> ReviewGiven:
            return ReviewGiven(accepted=not request.accept, feedback="")

    class Talker(Writer):
        def __init__(self, said: object) -> None:
            self.said = said

        async def handle(self, _request: SubtaskAssigned, _ctx: Context) -> ResultSubmitted:
            return self.said

    with pytest.raises(TypeError, match="gives a role a subtask, and 'critic' handles ReviewRequested"):
        await try_role(Strict(), "Review.")
    for said, told in {
        "Done.": "answered str where ResultSubmitted is wanted",
        ResultSubmitted(text="x" * 100_000): "the result's text has 100000 characters",
    }.items():
        with pytest.raises(ToolFailed, match=f"{told}"):
            await try_role(Talker(said), "Talk.")


def test_a_role_is_told_of_by_its_own_docstring_or_its_base_s_and_never_by_ours():
    class Quick(Writer):
        pass

    class Silent(Role[SubtaskAssigned, ResultSubmitted]):
        async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
            return ctx.result(request.subtask.id)

    assert [one.about() for one in (Writer, Quick, Silent)] == ["Writes what it is told."] * 2 + ["Silent"]
