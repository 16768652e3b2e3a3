"""Whole runs against an endpoint on loopback: planner, subtasks side by side, one `ask`; the durable log included."""

import asyncio
import subprocess
import sys
from time import perf_counter
from typing import TYPE_CHECKING

from agents.dialogue import MANNERS
from agents.role import prompt_of
from agents.roles.coder import Coder
from agents.roles.critic import Critic
from agents.roles.planner import Planner
from agents.roles.researcher import Researcher
from benchmarks.endpoint import answers, serving
from benchmarks.harness import Absolute, Benchmark
from benchmarks.words import ASK, GOAL, SENTENCE, instruction, whole_run
from tests.support.endpoint import ChatEndpoint

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam as Prompt

LATENCY_S = 0.2
IDEAL_S = 3 * LATENCY_S
"""Planner, all subtasks at once, critic."""


async def sdk(url: str, calls: int) -> float:
    """Make as many calls at once with the bare SDK on its default transport, and return the seconds."""
    import openai  # noqa: PLC0415 - half a second, and memory, that only this one needs

    prompt: list[Prompt] = [
        {"role": "system", "content": prompt_of(Coder)},
        {"role": "user", "content": instruction(1)},
    ]
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        begun = perf_counter()
        replies = await asyncio.gather(
            *(
                client.chat.completions.create(model="worker", messages=prompt, max_completion_tokens=4096)
                for _ in range(calls)
            )
        )
        took = perf_counter() - begun
    if not all(reply.choices[0].message.content == SENTENCE for reply in replies):
        raise RuntimeError("the endpoint gave another answer")
    return took


async def parallel() -> float:
    """Return how many times the ideal 64 subtasks take, in a process that is warm."""
    with serving(64, LATENCY_S) as url:
        await whole_run(url, 64)
        return await whole_run(url, 64) / IDEAL_S


async def many_ours() -> float:
    with serving(512, 0) as url:
        await whole_run(url, 512)
        return await whole_run(url, 512)


async def many_reference() -> float:
    with serving(512, 0) as url:
        await sdk(url, 512)
        return await sdk(url, 512)


async def prompt_size() -> float:
    """Return the prompts' size against the smallest that say the same: no titles, no frames, no blank lines.

    What follows each system prompt, that tools are to be used and not obeyed, says something too and counts as needed.
    """
    known = answers(64)
    async with ChatEndpoint(lambda body: known[body["model"]], keep=100) as endpoint:
        await whole_run(endpoint.url, 64)
        sent = sum(len(message["content"]) for one in endpoint.requests for message in one.body["messages"])
    offers = [f"{role.name}: {role.about()}" for role in (Coder, Researcher)]
    results = [f"part-{number} {SENTENCE}" for number in range(64)]
    least = [
        *(prompt_of(Planner), GOAL, *offers),
        *(text for number in range(64) for text in (prompt_of(Coder), MANNERS, GOAL, instruction(number))),
        *(prompt_of(Critic), MANNERS, GOAL, ASK, *results),
    ]
    return sent / sum(map(len, least))


def peak_memory() -> float:
    """Return the peak memory of a process that makes the run of 64 subtasks once, in MiB."""
    # What `getrusage` tells of a child holds the peak of the process that it was forked from.
    program = (
        "import asyncio, re, sys; from pathlib import Path; from benchmarks.words import whole_run; "
        "asyncio.run(whole_run(sys.argv[1], 64)); "
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024)"
    )
    with serving(64, 0) as url:
        done = subprocess.run([sys.executable, "-c", program, url], capture_output=True, text=True, check=True)
    return float(done.stdout)


BENCHMARKS = [
    Absolute("64 subtasks at 200 ms a call / 0.6 s", parallel, "x", 1.2),
    Benchmark("512 subtasks at 0 ms / 512 calls of the bare SDK", many_ours, many_reference, 1 / 0.45),
    Absolute("prompts of 64 subtasks / the smallest", prompt_size, "x", 1.1),
    Absolute("peak memory, 64 subtasks", peak_memory, "MiB", 80),
]
