"""A model call whose outcome is unknown counts in full, and is shown as what it is: after a kill, a stop and an end."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from bus.events import ModelAnswered, ModelAsked
from swarm.commands.report import cost_line
from tests.support.command import Ended, clean_env, process, serving
from tests.support.endpoint import Answer, Body, ChatEndpoint, Reply
from tests.support.runs import player, scenario, start, story, subtask_of

PLAN = [{"id": "a", "role": "coder", "do": "TASK a: write a.txt"}]
KILLED = 2
"""The request during which the process is killed."""
PLAY = player()


def usual(body: Body) -> Reply:
    """Answer as the player does, and bill next to nothing."""
    said = PLAY(body)
    answer = Answer(said) if isinstance(said, str) else said
    return Answer(answer.text, answer.calls, usage={"prompt_tokens": 100, "completion_tokens": 10})


def written(at: ChatEndpoint | str, tokens: int, **more: Any) -> dict[str, Any]:
    roles = {"coder": {"max_tokens": 300}}
    limits = {"tokens": tokens}
    return scenario(at, plan=PLAN, accept=[{"file": "a.txt"}], roles=roles, limits=limits, **more)


async def asks(tmp_path: Path) -> list[int]:
    """Return what each model call of the run reserves when nothing goes wrong."""
    async with ChatEndpoint(usual) as endpoint:
        outcome = await start(tmp_path, written(endpoint, 100_000))
    assert outcome.outcome == "accepted"
    assert outcome.tokens.unproven == 0
    told = await story(tmp_path)
    assert len(told.of(ModelAnswered)) == 2
    return [event.input_bound + event.max_tokens for event in told.of(ModelAsked)]


async def test_what_an_endpoint_does_not_report_is_shown_as_estimated(tmp_path: Path) -> None:
    async with ChatEndpoint(usual, faults=[None, "usage_missing"]) as endpoint:
        outcome = await start(tmp_path, written(endpoint, 100_000, price={"input": 1.0, "output": 2.0}))
    first, second = [event.usage for event in (await story(tmp_path)).of(ModelAnswered)]
    assert (first.estimated, second.estimated) == (False, True)
    assert outcome.tokens.estimated == second.input + second.output
    money, tokens, *_ = cost_line(outcome).split(" · ")
    assert money.startswith("about $")
    assert f"tokens ({outcome.tokens.estimated} of them estimated) in 2 model calls" in tokens


def killed(folder: Path, tokens: int) -> Ended:
    """Run in a process that is killed while the endpoint has its second request; return what `resume` comes to."""
    known = threading.Event()
    pids: list[int] = []
    requests: list[Body] = []

    def respond(body: Body) -> Reply:
        requests.append(body)
        if len(requests) == KILLED:
            known.wait(10)
            os.kill(pids[0], signal.SIGKILL)
        return usual(body)

    folder.mkdir()
    with serving(responder=respond) as endpoint:
        (folder / "it.yaml").write_text(json.dumps(written(endpoint, tokens)))
        command = [sys.executable, "-m", "swarm", "run", "it.yaml"]
        child = subprocess.Popen(
            command, cwd=folder, env=clean_env(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        pids.append(child.pid)
        known.set()
        assert child.wait(60) == -signal.SIGKILL
        return process("resume", "last", "--json", cwd=folder)


def test_after_a_kill_the_call_that_was_under_way_counts_in_full_and_is_shown(tmp_path: Path) -> None:
    reserved = asyncio.run(asks(tmp_path / "usual"))
    resumed = killed(tmp_path / "killed", 100_000)
    assert resumed.status == 0, resumed.err
    tokens = resumed.json["tokens"]
    assert tokens == {"input": 200, "output": 20, "cached": 0, "unproven": reserved[KILLED - 1], "estimated": 0}
    assert resumed.json["model_calls"] == 3
    assert process("show", "last", "--json", cwd=tmp_path / "killed").json["tokens"] == tokens
    shown = process("show", "last", cwd=tmp_path / "killed").out
    assert f"200 + 20 tokens + {reserved[KILLED - 1]:,} that may have been billed in 3 model calls" in shown


def test_a_limit_is_reached_because_of_what_is_unproven(tmp_path: Path) -> None:
    reserved = asyncio.run(asks(tmp_path / "usual"))
    enough = 110 + reserved[1] + 100
    assert enough < 2 * min(reserved), "a second reservation of a call does not fit beside the first"

    async def fits() -> None:
        async with ChatEndpoint(usual) as endpoint:
            assert (await start(tmp_path / "fits", written(endpoint, enough))).outcome == "accepted"

    asyncio.run(fits())
    folder = tmp_path / "killed"
    resumed = killed(folder, enough)
    assert (resumed.status, resumed.json["outcome"]) == (1, "failed")
    assert "limits.tokens leaves no room for the next model call of 'a'" in resumed.json["reason"]
    assert resumed.json["tokens"]["unproven"] == reserved[KILLED - 1]
    assert sum(resumed.json["tokens"][name] for name in ("input", "output", "unproven")) <= enough
    assert "CallRefused" in process("log", "last", "--type", "*CallRefused*", "--json", cwd=folder).out


@pytest.mark.parametrize("how", ["stopped", "failed"])
async def test_what_is_under_way_when_a_run_stops_or_ends_counts_in_full(tmp_path: Path, how: str) -> None:
    held = asyncio.Event()
    go = asyncio.Event()

    async def hold(body: Body) -> Reply:
        if subtask_of(body) == "a":
            held.set()
            await go.wait()
        return usual(body)

    async with ChatEndpoint(hold) as endpoint:
        limits = {"tokens": 100_000} | ({"time": "1s"} if how == "failed" else {})
        running = asyncio.create_task(start(tmp_path, written(endpoint, 100_000) | {"limits": limits}))
        await held.wait()
        if how == "stopped":
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        else:
            assert (await running).outcome == "failed"
        go.set()
    told = await story(tmp_path)
    asked = [event.input_bound + event.max_tokens for event in told.of(ModelAsked)]
    assert len(asked) >= 1
    assert told.state.ledger.spent.unproven == sum(asked), "each try, too, that the deadline cut off"
    assert not told.state.ledger.reserved
