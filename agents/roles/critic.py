"""Result in, review out: checks that can be executed first, the model only for what they cannot say."""

from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agents.context import Context
from agents.errors import CheckBroken
from agents.prompts import bullets, file_list, result, section
from agents.role import Role, prompt_of
from bus.events import Fact, Redo, ReviewGiven, ReviewRequested
from bus.setup import Criterion


class Rework(BaseModel):
    """A subtask to do again."""

    model_config = ConfigDict(extra="forbid")

    subtask: str
    why: str


class Judgement(BaseModel):
    """The critic's answer."""

    model_config = ConfigDict(extra="forbid")

    reasons: Annotated[str, Field(description="what you looked at and what it shows, criterion by criterion")]
    accepted: bool
    redo: Annotated[list[Rework], Field(description="if not accepted: which subtasks to do again, and why")] = []

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.accepted and self.redo:
            raise ValueError("it accepts, and has subtasks done again; which of the two?")
        return self


class Critic(Role[ReviewRequested, ReviewGiven]):
    """Judges results: runs the checks, then looks for what checks cannot say."""

    name: ClassVar[str] = "critic"
    handles: ClassVar[type[Fact]] = ReviewRequested
    tools: ClassVar[tuple[str, ...]] = ("read_file", "list_files", "search_files")

    async def handle(self, request: ReviewRequested, ctx: Context) -> ReviewGiven:
        """Check, then ask."""
        asks = [str(criterion["ask"]) for criterion in request.accept if "ask" in criterion]
        held, failed, named = await self._check([c for c in request.accept if "ask" not in c], ctx)
        if failed:
            return ReviewGiven(accepted=False, feedback="\n".join(failed), named=tuple(dict.fromkeys(named)))
        if asks or (request.subtask is None and not request.accept):
            return await self._ask(request, ctx, asks)
        return ReviewGiven(accepted=True, feedback="; ".join(held))

    async def _check(self, criteria: list[Criterion], ctx: Context) -> tuple[list[str], list[str], list[str]]:
        """Return what holds, what does not, and the files that failures name. Raises `CheckBroken`."""
        held: list[str] = []
        failed: list[str] = []
        named: list[str] = []
        for criterion in criteria:
            verdict = await ctx.check(criterion)
            if verdict.verdict == "broken":
                raise CheckBroken(f"a check could not be made: {verdict.shows}")
            if verdict.verdict == "holds":
                held.append(verdict.shows)
            else:
                failed.append(verdict.shows)
                named += verdict.named
        return held, failed, named

    async def _ask(self, request: ReviewRequested, ctx: Context, asks: list[str]) -> ReviewGiven:
        """Let the model judge."""
        what = "Results by subtask" if request.subtask is None else "The result"
        user = (
            section("Goal", ctx.goal)
            + section(what, "\n".join(result(finding) for finding in ctx.findings))
            + section("Files", file_list(ctx.files))
            + section("Criteria", bullets(asks) or "- The outcome reaches the goal.")
        )
        reply = await ctx.converse(ctx.briefing.role.prompt or prompt_of(type(self)), user.rstrip(), answer=Judgement)
        judged: Judgement = reply.data
        if judged.accepted:
            return ReviewGiven(accepted=True, feedback=judged.reasons)
        known = {finding.subtask for finding in ctx.findings if request.subtask is None}
        redo = tuple(Redo(subtask=item.subtask, why=item.why) for item in judged.redo if item.subtask in known)
        others = [item for item in judged.redo if item.subtask not in known]  # what is to change is told all the same
        feedback = "\n".join([judged.reasons, *(f"{item.subtask}: {item.why}" for item in others)])
        named = tuple(item.subtask for item in others if item.subtask in ctx.files)
        return ReviewGiven(accepted=False, feedback=feedback, redo=redo, named=named)
