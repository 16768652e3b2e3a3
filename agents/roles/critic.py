"""Result in, review out: checks that can be executed first, the model only for what they cannot say."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from agents.briefing import Finding
from agents.check import Verdict
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
        verdicts = [await self._check(criterion, ctx) for criterion in request.accept if "ask" not in criterion]
        if failed := [verdict for verdict in verdicts if verdict.verdict == "fails"]:
            named = dict.fromkeys(path for verdict in failed for path in verdict.named)
            redo = redone(failed, ctx.findings) if request.subtask is None else ()
            feedback = "\n".join(verdict.shows for verdict in failed)
            return ReviewGiven(accepted=False, feedback=feedback, redo=redo, named=tuple(named))
        if asks or (request.subtask is None and not request.accept):
            return await self._ask(request, ctx, asks)
        return ReviewGiven(accepted=True, feedback="; ".join(verdict.shows for verdict in verdicts))

    async def _check(self, criterion: Criterion, ctx: Context) -> Verdict:
        verdict = await ctx.check(criterion)
        if verdict.verdict == "broken":
            raise CheckBroken(f"a check could not be made: {verdict.shows}")
        return verdict

    async def _ask(self, request: ReviewRequested, ctx: Context, asks: list[str]) -> ReviewGiven:
        """Let the model judge."""
        whole = request.subtask is None
        what = "Results by subtask" if whole else "The result"
        earlier = [f"[{finding.subtask}] {why}" for finding in ctx.findings for why in finding.feedback]
        user = (
            section("Goal", ctx.goal)
            + section("The subtask", "" if whole else "\n".join(finding.instruction for finding in ctx.findings))
            + section(what, "\n".join(result(finding) for finding in ctx.findings))
            + section("What was wrong with earlier attempts (do not ask for the contrary now)", bullets(earlier))
            + section("Files", file_list(ctx.files))
            + section("Criteria", bullets(asks) or "- The outcome reaches the goal.")
        )
        reply = await ctx.converse(ctx.briefing.role.prompt or prompt_of(type(self)), user.rstrip(), answer=Judgement)
        judged: Judgement = reply.data
        if judged.accepted:
            return ReviewGiven(accepted=True, feedback=judged.reasons)
        known = {finding.subtask for finding in ctx.findings} if whole else set[str]()
        redo = tuple(Redo(subtask=item.subtask, why=item.why) for item in judged.redo if item.subtask in known)
        others = [item for item in judged.redo if item.subtask not in known]  # what is to change is told all the same
        feedback = "\n".join([judged.reasons, *(f"{item.subtask}: {item.why}" for item in others)])
        named = tuple(item.subtask for item in others if item.subtask in ctx.files)
        return ReviewGiven(accepted=False, feedback=feedback, redo=redo, named=named)


def redone(failed: Sequence[Verdict], findings: Sequence[Finding]) -> tuple[Redo, ...]:
    """Return what is told to whom, where one subtask alone made a file that failures name.

    Not what is wrong with others' files: who is told of them mends them too. What is nobody's is told to all.
    """
    makers: dict[str, list[str]] = {}
    for finding in findings:
        for path in finding.files:
            makers.setdefault(path, []).append(finding.subtask)
    whose = [{name for path in verdict.named for name in makers.get(path, ())} for verdict in failed]
    named = [makers.get(path, ()) for verdict in failed for path in verdict.named]
    redo = []
    for name in dict.fromkeys(names[0] for names in named if len(names) == 1):
        shown = [verdict.shows for verdict, names in zip(failed, whose, strict=True) if not names or name in names]
        redo.append(Redo(subtask=name, why="\n".join(shown)))
    return tuple(redo)
