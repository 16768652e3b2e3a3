"""Instruction in, files out."""

from typing import ClassVar

from agents.context import Context
from agents.prompts import task
from agents.role import Role, prompt_of
from bus.events import Fact, ResultSubmitted, SubtaskAssigned

READS = frozenset({"read_file", "list_files", "search_files"})
LOOKS = frozenset({"file", "text", "json"})
"""Criteria that are judged by a look at the files."""


class Coder(Role[SubtaskAssigned, ResultSubmitted]):
    """Writes and changes files, programs and texts alike, and runs them to see whether they work."""

    name: ClassVar[str] = "coder"
    handles: ClassVar[type[Fact]] = SubtaskAssigned
    tools: ClassVar[tuple[str, ...]] = (
        "read_file",
        "list_files",
        "search_files",
        "write_file",
        "edit_file",
        "run_python",
    )

    async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
        """Let the model work until it says what it did; the files are the result."""
        user = task(ctx.briefing, request.subtask.instruction, request.feedback)
        prompt = ctx.briefing.role.prompt or prompt_of(type(self))
        tools = [tool for tool in ctx.tools if ctx.files or tool not in READS]  # what is not there is not read

        async def lacking() -> str:
            verdicts = [await ctx.check(entry) for entry in request.subtask.accept if LOOKS.intersection(entry)]
            return "\n".join(verdict.shows for verdict in verdicts if verdict.verdict == "fails")

        reply = await ctx.converse(prompt, user, tools=tools, lacking=lacking)
        return ctx.result(reply.text)
