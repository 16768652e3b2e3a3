"""Goal in, plan out: subtasks with roles, needs and criteria, as a graph."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from agents.context import Context
from agents.prompts import bullets, file_list, section
from agents.role import Role, prompt_of
from bus.events import Fact, PlanProposed, PlanRequested
from bus.setup import Criterion, Subtask


class Planned(BaseModel):
    """One subtask as the planner writes it."""

    model_config = ConfigDict(extra="forbid")

    id: str
    role: str
    do: str
    needs: list[str] = []
    creates: Annotated[list[str], Field(description="paths of the files that it must write, if any")] = []


class Plan(BaseModel):
    """The planner's answer."""

    model_config = ConfigDict(extra="forbid")

    subtasks: Annotated[list[Planned], Field(min_length=1)]


class Planner(Role[PlanRequested, PlanProposed]):
    """Breaks a goal into subtasks that others can do in parallel."""

    name: ClassVar[str] = "planner"
    handles: ClassVar[type[Fact]] = PlanRequested

    async def handle(self, request: PlanRequested, ctx: Context) -> PlanProposed:
        """Ask the model for a plan."""
        told = ctx.briefing
        present = [f"[{f.subtask}] {f.role}, {f.status}: {f.instruction}" for f in told.findings]
        user = (
            section("Goal", ctx.goal)
            + section("Roles", "\n".join(f"{offer.role}: {offer.about}" for offer in told.offers))
            + section("Files that are there", file_list(ctx.files))
            + section("The plan so far (keep accepted subtasks as they are)", "\n".join(present))
            + section("Why another plan is needed", bullets(request.feedback))
            + f"At most {told.most_subtasks} subtasks."
        )
        reply = await ctx.converse(told.role.prompt or prompt_of(type(self)), user, answer=Plan)
        plan: Plan = reply.data
        return PlanProposed(subtasks=tuple(_subtask(planned) for planned in plan.subtasks))


def _subtask(planned: Planned) -> Subtask:
    accept: tuple[Criterion, ...] = tuple({"file": path} for path in dict.fromkeys(planned.creates))
    return Subtask(id=planned.id, role=planned.role, instruction=planned.do, needs=tuple(planned.needs), accept=accept)
