"""A scenario and roles drawn from a seed: what a storm of simulated runs runs, where nobody brings a scenario."""

import asyncio
import json
import random
import re
from typing import ClassVar

from agents.canonical import sha256_hex
from agents.context import Context
from agents.model import ModelReply, ModelRequest
from agents.role import Role
from agents.tool import tool
from bus.events import CallRequest, Fact, ResultSubmitted, SubtaskAssigned, Usage
from bus.setup import Criterion, Limits, RoleSetup, Setup, Subtask

STEPS = ("ask", "ask", "ask", "talk", "post", "order", "look", "now", "roll", "both", "note")
TASK = re.compile(r"\[([a-z0-9]+)\] ([a-z ]*)")


@tool(effect="outward", network=False)
async def post(what: str) -> str:
    """Post something; twice is twice."""
    await asyncio.sleep(0.3)
    return f"posted {what}"


@tool(effect="outward", network=False, idempotent=True)
async def order(what: str) -> str:
    """Order something; the same order again is the same order."""
    await asyncio.sleep(0.3)
    return f"ordered {what}"


@tool(effect="reads")
async def look(what: str) -> str:
    """Look at something."""
    await asyncio.sleep(0.1)
    return f"seen {what}"


class Busy(Role[SubtaskAssigned, ResultSubmitted]):
    """Does step by step what its instruction says."""

    name: ClassVar[str] = "busy"
    handles: ClassVar[type[Fact]] = SubtaskAssigned
    tools: ClassVar[tuple[str, ...]] = ("post", "order", "look")

    async def handle(self, request: SubtaskAssigned, ctx: Context) -> ResultSubmitted:
        """Do it."""
        found = TASK.search(request.subtask.instruction)
        name, steps = (found[1], found[2].split()) if found else ("?", [])
        said: list[str] = []
        for at, step in enumerate(steps):
            what = f"{name}-{at}"
            match step:
                case "ask":
                    said.append((await ctx.converse("Be brief.", f"ask {what} attempt {ctx.attempt}", tools=())).text)
                case "talk":
                    said.append((await ctx.converse("Use tools.", f"talk {what} attempt {ctx.attempt}")).text)
                case "post" | "order" | "look":
                    said.append(await ctx.call_tool(step, what=what))
                case "now":
                    said.append(f"{await ctx.now():.0f}")
                case "roll":
                    said.append(f"{await ctx.random():.6f}")
                case "both":
                    said += await self._both(ctx, what)
                case "note":
                    folder = await ctx.folder()
                    await asyncio.to_thread(folder.write, f"{name}.txt", "\n".join(said).encode())
        return ctx.result(" | ".join(said)[-2000:])

    async def _both(self, ctx: Context, what: str) -> list[str]:
        """Ask and look side by side; what comes first is said first."""
        came: list[str] = []

        async def ask(side: str) -> None:
            came.append((await ctx.converse("Be brief.", f"ask {what} {side} attempt {ctx.attempt}", tools=())).text)

        async def see() -> None:
            came.append(await ctx.call_tool("look", what=what))

        async with asyncio.TaskGroup() as group:
            for side in ("left", "right"):
                group.create_task(ask(side))
            group.create_task(see())
        return came


def drawn_setup(chance: random.Random) -> Setup:
    """Draw a scenario: a few subtasks, with or without a planner, with limits that mostly do not matter."""
    mine = "swarm.simulation.drawn"
    tools = (f"{mine}:post", f"{mine}:order", f"{mine}:look")
    count = chance.choice((1, 2, 2, 3, 4, 6))
    plan = tuple(_subtask(chance, number, count) for number in range(count))
    roles = {
        name: RoleSetup(model="simulated:model", max_tokens=200, deadline_ms=600_000, agents=chance.choice((2, 8)))
        for name in ("planner", "critic")
    }
    roles["busy"] = RoleSetup(
        model="simulated:model",
        tools=tools,
        uses=f"{mine}:Busy",
        max_tokens=200,
        deadline_ms=600_000,
        agents=chance.choice((1, 3, 8)),
    )
    limits = Limits(
        tokens=chance.choice((30_000, 500_000, 500_000, 500_000)),
        parallel=chance.choice((2, 4, 8)),
        time_ms=chance.choice((60_000, 3_600_000, 3_600_000, 3_600_000)),
        attempts=3,
        subtasks=24,
    )
    goal = json.dumps([one.model_dump(mode="json", include={"id", "role", "instruction", "needs"}) for one in plan])
    planned = chance.random() < 0.6  # noqa: PLR2004 - most scenarios in a storm bring their plan: that is quicker
    accept: tuple[Criterion, ...] = ({"ask": "All is done."},) if chance.random() < 0.5 else ()  # noqa: PLR2004 - a coin
    return Setup(name="drawn", goal=goal, roles=roles, accept=accept, plan=plan if planned else None, limits=limits)


def _subtask(chance: random.Random, number: int, count: int) -> Subtask:
    needs = tuple(f"s{one}" for one in range(number) if chance.random() < 1 / count)
    steps = [chance.choice(STEPS) for _ in range(chance.choice((1, 1, 2, 3, 5)))]
    accept: tuple[Criterion, ...] = ({"ask": "It is well."},) if chance.random() < 0.2 else ()  # noqa: PLR2004 - one in five
    return Subtask(
        id=f"s{number}", role="busy", instruction=f"[s{number}] {' '.join(steps)}", needs=needs, accept=accept
    )


def drawn_answer(request: ModelRequest) -> ModelReply:
    """Answer as the drawn scenario's model: by what is asked, and nothing else."""
    text = "\n".join(str(message.get("content") or "") for message in request.messages)
    digest = sha256_hex(text.encode())
    usage = Usage(input=min(50, len(text)), output=20)
    if request.role == "planner":
        goal = str(request.messages[1]["content"])
        subtasks, _ = json.JSONDecoder().raw_decode(goal[goal.index("[{") :])
        plan = [
            {"id": one["id"], "role": one["role"], "do": one["instruction"], "needs": one["needs"]} for one in subtasks
        ]
        return ModelReply(json.dumps({"subtasks": plan}), usage)
    if request.role == "critic":
        accepted = int(digest[:2], 16) > 25  # noqa: PLR2004 - nine in ten
        return ModelReply(json.dumps({"reasons": f"because {digest[:6]}", "accepted": accepted}), usage)
    last = request.messages[-1]
    if request.tools and last.get("role") == "user" and str(last.get("content", "")).startswith("talk"):
        what = str(last["content"]).split()[1]
        names = ("look",) if int(digest[:2], 16) % 2 else ("post",)
        calls = tuple(
            CallRequest(id=f"c{at}", name=name, arguments=json.dumps({"what": f"{what}-{digest[:4]}"}))
            for at, name in enumerate(names)
        )
        return ModelReply(None, usage, calls, "tool_calls")
    return ModelReply(f"said {digest[:8]}", usage)
