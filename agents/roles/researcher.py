"""Question in, findings out, each with its source."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from agents.context import Context
from agents.prompts import task
from agents.role import Role, prompt_of
from bus.events import Fact, ResultSubmitted, SubtaskAssigned


class Found(BaseModel):
    """One finding."""

    model_config = ConfigDict(extra="forbid")

    claim: str
    source: Annotated[str, Field(description="the file or the address where it stands")]


class Findings(BaseModel):
    """The researcher's answer."""

    model_config = ConfigDict(extra="forbid")

    findings: list[Found]
    open_questions: list[str] = []


class Researcher(Role[SubtaskAssigned, ResultSubmitted]):
    """Reads files and pages, and reports findings, each with its source; writes no files."""

    name: ClassVar[str] = "researcher"
    handles: ClassVar[type[Fact]] = SubtaskAssigned
    tools: ClassVar[tuple[str, ...]] = ("read_file", "list_files", "search_files")

    async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
        """Let the model look until it can answer."""
        user = task(ctx.briefing, request.subtask.instruction, request.feedback)
        reply = await ctx.converse(ctx.briefing.role.prompt or prompt_of(type(self)), user, answer=Findings)
        answer: Findings = reply.data
        lines = [f"- {found.claim} [{found.source}]" for found in answer.findings]
        lines += [f"- open: {question}" for question in answer.open_questions]
        return ctx.result("\n".join(lines) or "Nothing was found.", data=answer.model_dump())
