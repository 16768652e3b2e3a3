"""The keys of parallel effects are the same whatever the interleaving, and over any prefix of the log."""

import asyncio
import random
from pathlib import Path

import pytest

from agents.context import Context
from tests.support.interleavings import RoleCode, World, awaited, keys


async def three_branches(ctx: Context) -> list[str]:
    """Each branch has several conversations, with tools, and draws."""

    async def branch(name: str) -> str:
        told = name
        for step in range(2):
            reply = await ctx.converse("s", f"{name} {step} {told}")
            told = f"{reply.text} {await ctx.random() > 2} {await ctx.call_tool('look', at=f'{name}{step}')}"
        return told

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(branch(name)) for name in "abc"]
    return [task.result() for task in tasks]


async def nested_groups(ctx: Context) -> str:
    """Groups in groups; what is inner begins effects before and after what is outer."""

    async def split(name: str, depth: int) -> str:
        if depth == 0:
            return (await ctx.converse("s", name, tools=())).text
        if depth == 2:
            await ctx.now()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(split(f"{name}{n}", depth - 1)) for n in range(2)]
        inner = " ".join(task.result() for task in tasks)
        return await ctx.call_tool("look", at=f"{name} {inner}")

    return await split("n", 3)


async def order_of_arrival(ctx: Context) -> list[str]:
    """What came first is put into what is asked next; who loses a race is cancelled."""

    async def ask(name: str) -> str:
        return f"{name}: {(await ctx.converse('s', name)).text}"

    told: list[str] = []
    for first in asyncio.as_completed([asyncio.create_task(ask(name)) for name in "abcd"]):
        told.append(await first)
        told.append((await ctx.converse("s", f"so far {told}", tools=())).text)
    pending = {asyncio.create_task(ask(name), name=name) for name in "efgh"}
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        told.append(f"together: {sorted(task.result() for task in done)}")
        told.append((await ctx.converse("s", f"then {told[-1]}", tools=())).text)
    return told


async def race(ctx: Context) -> list[str]:
    """Who comes first wins, and the others are cancelled, whatever they are at."""

    async def ask(name: str) -> str:
        return f"{name}: {(await ctx.converse('s', name)).text}"

    told: list[str] = []
    for heat in range(3):
        racers = [asyncio.create_task(ask(f"{name}{heat}")) for name in "abc"]
        done, losers = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
        for loser in losers:
            loser.cancel()
        await asyncio.gather(*losers, return_exceptions=True)
        told.append(await ctx.call_tool("look", at=f"first {sorted(task.result() for task in done)}"))
    return told


async def hold(role: RoleCode, seed: int, folder: Path) -> None:
    """Run a role, then again over a prefix of its log and over all of it: nothing may differ."""
    world = World(seed)
    result = await world.run(role, folder)
    for cut in (random.Random(seed).randrange(len(world.log)), len(world.log)):
        where = f"seed {seed}, cut at {cut} of {len(world.log)}"
        recorded = world.log[:cut]
        again = World(seed + 1_000_000, order=world.happened[awaited(recorded) :])
        assert await again.run(role, folder, recorded) == result, where
        if role is race:  # what a loser was at when the log was cut is not done again if it has lost by then
            assert keys(recorded) <= keys(again.log) <= keys(world.log), where
        else:
            assert not again.missed, where
            assert keys(again.log) == keys(world.log), where
        assert cut < len(world.log) or again.log == world.log, where


ROLES = [three_branches, nested_groups, order_of_arrival, race]


@pytest.mark.parametrize("role", ROLES)
async def test_keys_do_not_hang_on_the_interleaving(role: RoleCode, tmp_path: Path) -> None:
    for seed in range(15):
        await hold(role, seed, tmp_path / "folder")


@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("block", range(4))
async def test_keys_do_not_hang_on_any_of_1000_interleavings(role: RoleCode, block: int, tmp_path: Path) -> None:
    for seed in range(block * 250, block * 250 + 250):
        await hold(role, seed, tmp_path / "folder")
