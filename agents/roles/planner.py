"""Goal in, plan out: subtasks with roles, needs and criteria, as a graph."""

import functools
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator
from pydantic.json_schema import SkipJsonSchema

from agents.briefing import Finding, Offer
from agents.checks import RUNS_COMMANDS, parse
from agents.context import Context
from agents.errors import BadCriterion
from agents.prompts import bullets, file_list, result, section
from agents.role import Role, prompt_of
from bus.events import Fact, PlanProposed, PlanRequested
from bus.setup import Criterion, Subtask

READS_FILES = frozenset({"read_file", "list_files", "search_files"})
"""With these alone a role has nothing to do where there are no files."""
LOOKS_ONLY = READS_FILES | {"fetch_page", "search_web"}
"""With these alone a role cannot make a file, whatever a plan says."""

_WRITES = re.compile(
    r"(?:write|create|make)\s+(?:an? |the )?(?:file |module )?[`'\"]?([\w-][\w./-]*\.[a-z]\w{0,4})\b", re.IGNORECASE
)
"""How an instruction begins that says which file is to be written."""


class Planned(BaseModel):
    """One subtask as the planner writes it."""

    model_config = ConfigDict(extra="forbid")

    id: str
    role: str
    creates: Annotated[list[str], Field(description="paths of the files that it must write, if any")] = []
    do: str
    needs: list[str] = []
    accept: SkipJsonSchema[list[Criterion]] = []
    """Told of by `plan_of` alone, and only to models that can make use of it."""

    @field_validator("accept")
    @classmethod
    def _parses(cls, accept: list[Criterion]) -> list[Criterion]:
        try:
            for criterion in accept:
                parse(criterion)
        except BadCriterion as error:
            raise ValueError(str(error)) from error
        return accept


class Plan(BaseModel):
    """The planner's answer."""

    model_config = ConfigDict(extra="forbid")

    subtasks: Annotated[list[Planned], Field(min_length=1)]


_PRESENT = (
    "The plan so far (give accepted subtasks again, with an empty `do`, and they stay as they are; "
    "who goes on with their files needs them)"
)
_CHECKS = (
    'checks of its files, where the goal says what they must hold, such as {"text": "a.md", "max_words": 200, '
    '"contains": ["EUR"]} or {"json": "a.json"}'
)
_RUN = ', and for {} also {{"run": "python -m unittest -q"}}'


@functools.cache
def plan_of(roles: tuple[str, ...], most: int, *, runners: tuple[str, ...] | None = None) -> type[Plan]:
    """Return the answer for these roles and at most so many subtasks; endpoints that keep to a schema keep to that.

    `runners`: roles whose results may be run to check them; None leaves checks untold.
    """
    role = Annotated[str, Field(json_schema_extra={"enum": [*roles]})]
    base = Planned if runners is None else _told_of_checks(runners)
    planned = create_model("Planned", __base__=base, role=(role, ...))
    several = (list[planned], Field(min_length=1, max_length=most))  # pyright: ignore[reportInvalidTypeForm]
    return create_model("Plan", __base__=Plan, subtasks=several)


def _told_of_checks(runners: tuple[str, ...]) -> type[Planned]:
    about = _CHECKS + (_RUN.format(", ".join(runners)) if runners else "")
    return create_model("Planned", __base__=Planned, accept=(list[Criterion], Field([], description=about)))


class Planner(Role[PlanRequested, PlanProposed]):
    """Breaks a goal into subtasks that others can do in parallel."""

    name: ClassVar[str] = "planner"
    handles: ClassVar[type[Fact]] = PlanRequested

    async def handle(self, request: PlanRequested, ctx: Context) -> PlanProposed:
        """Ask the model for a plan."""
        told = ctx.briefing
        offers = useful(told.offers, files=bool(ctx.files))
        present = [
            result(finding, f"{finding.role}, {finding.status}: {finding.instruction}") for finding in told.findings
        ]
        user = (
            section("Goal", ctx.goal)
            + section("Roles", "\n".join(f"{offer.role}: {offer.about}" for offer in offers))
            + section("Files that are there", file_list(ctx.files) or "none yet")
            + section(_PRESENT, "\n".join(present))
            + section("Why another plan is needed", bullets(request.feedback))
        )  # the limit stands in the schema: told in words, a small model takes it for a number to reach
        roles = tuple(offer.role for offer in offers)
        runners = tuple(offer.role for offer in offers if RUNS_COMMANDS.intersection(offer.tools))
        small = told.role.dialogue == "json"  # each word more that such a model is told is one less that it heeds
        answer = plan_of(roles, max(told.most_subtasks, 1), runners=None if small else runners)
        reply = await ctx.converse(told.role.prompt or prompt_of(type(self)), user.rstrip(), answer=answer)
        plan: Plan = reply.data
        accepted = {finding.subtask: finding for finding in told.findings if finding.status == "accepted"}
        given = [as_accepted(one, accepted.get(one.id)) for one in plan.subtasks]
        planned = {(one.id, one.role, one.do) for one in given}
        done = {f.subtask: f.files for f in accepted.values() if (f.subtask, f.role, f.instruction) in planned}
        subtasks = one_a_file(without_impossible_files(with_named_files(given), offers), done)
        return PlanProposed(subtasks=tuple(as_subtask(planned) for planned in subtasks))


def as_accepted(one: Planned, before: Finding | None) -> Planned:
    """Give a subtask its instruction to the letter where it is an accepted one: what is another's is done anew."""
    same = before is not None and one.role == before.role and one.do.split() in ([], before.instruction.split())
    return one.model_copy(update={"do": before.instruction}) if before and same else one


def useful(offers: Sequence[Offer], *, files: bool) -> Sequence[Offer]:
    """Leave out roles that can only read files where there are none: offered, they are given things to read."""
    found = [offer for offer in offers if files or not offer.tools or not READS_FILES.issuperset(offer.tools)]
    return found or offers


def with_named_files(subtasks: Sequence[Planned]) -> list[Planned]:
    """Take a file that a subtask begins by saying to write for one that it creates, where the planner left that out.

    Small models forget `creates`; then nothing asks for the file, and nobody notices that it holds a stub.
    """
    found = []
    for one in subtasks:
        named = _WRITES.match(one.do.strip()) if not one.creates else None
        found.append(one.model_copy(update={"creates": [named[1]]}) if named else one)
    return found


def without_impossible_files(subtasks: Sequence[Planned], offers: Sequence[Offer]) -> list[Planned]:
    """Ask no files of roles that cannot write any: their results are what they report."""
    readers = {offer.role for offer in offers if offer.tools and LOOKS_ONLY.issuperset(offer.tools)}
    return [_without_files(one) if one.role in readers else one for one in subtasks]


def _without_files(one: Planned) -> Planned:
    return one.model_copy(update={"creates": [], "accept": [entry for entry in one.accept if "ask" in entry]})


def one_a_file(subtasks: Sequence[Planned], done: Mapping[str, Sequence[str]] = MappingProxyType({})) -> list[Planned]:
    """Make one subtask of those that would write the same file: side by side they end in a conflict.

    Not of two where one needs the other by way of a third: they are done in turn, and as one would need themselves.
    `done`: accepted ones, with their files. They stay as they are, else they were lost; who writes a file of theirs
    goes on from it.
    """
    kept: list[Planned] = []
    writers: dict[tuple[str, str], list[int]] = {}
    needs: dict[str, list[str]] = {}
    for one in subtasks:
        needs.setdefault(one.id, []).extend(one.needs)
    for one in subtasks:
        theirs = [name for name, files in done.items() if one.id not in done and not set(files).isdisjoint(one.creates)]
        needs[one.id] += [name for name in theirs if one.id not in _reached(name, needs)]
    for one in subtasks:
        files = dict.fromkeys((one.role, path) for path in one.creates if one.id not in done)
        found = sorted({at for file in files for at in writers.get(file, ())})
        at = next((at for at in found if not _in_turn(kept[at].id, one.id, needs)), len(kept))
        if at == len(kept):
            kept.append(one)
        else:
            first = kept[at] = _joined(kept[at], one)
            needs[first.id] = [*needs.get(first.id, ()), *needs.pop(one.id, ())]
            needs = {name: [first.id if need == one.id else need for need in of] for name, of in needs.items()}
        for file in files:
            writers.setdefault(file, []).append(at)
    return [
        one.model_copy(update={"needs": [need for need in dict.fromkeys(needs.get(one.id, ())) if need != one.id]})
        for one in kept
    ]


def _in_turn(one: str, other: str, needs: Mapping[str, Sequence[str]]) -> bool:
    """Tell whether one of two subtasks needs the other by way of a third."""
    ways = [(need, there) for here, there in ((one, other), (other, one)) for need in needs.get(here, ())]
    return any(there in _reached(need, needs) for need, there in ways if need not in (one, other))


def _reached(start: str, needs: Mapping[str, Sequence[str]]) -> set[str]:
    reached: set[str] = set()
    todo = [start]
    while todo:
        name = todo.pop()
        if name not in reached:
            reached.add(name)
            todo += needs.get(name, ())
    return reached


def _joined(one: Planned, other: Planned) -> Planned:
    creates = list(dict.fromkeys([*one.creates, *other.creates]))
    do = one.do if other.do in one.do else f"{one.do}\n{other.do}"
    return one.model_copy(update={"creates": creates, "do": do, "accept": [*one.accept, *other.accept]})


def as_subtask(planned: Planned) -> Subtask:
    """Return a subtask as a plan has it: the files that it creates are checked first."""
    accept: list[Criterion] = []
    files: list[Criterion] = [{"file": path} for path in planned.creates]
    for entry in (*files, *planned.accept):
        if entry not in accept:
            accept.append(entry)
    return Subtask(
        id=planned.id, role=planned.role, instruction=planned.do, needs=tuple(planned.needs), accept=tuple(accept)
    )
