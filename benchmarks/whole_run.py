"""Whole runs against an endpoint on loopback: planner, subtasks side by side, one `ask`; the durable log included."""

import asyncio
import subprocess
import sys
import tempfile
from time import perf_counter

import swarm
from agents.role import prompt_of
from agents.roles.coder import Coder
from agents.roles.critic import Critic
from agents.roles.planner import Planner
from agents.roles.researcher import Researcher
from benchmarks.endpoint import SENTENCE, answers, instruction, serving
from benchmarks.harness import Absolute, Benchmark
from tests.support.endpoint import ChatEndpoint

GOAL = "Explain each word of the list."
ASK = "Each word is explained."
LATENCY_S = 0.2
IDEAL_S = 3 * LATENCY_S
"""Planner, all subtasks at once, critic."""


def scenario(url: str, subtasks: int) -> dict[str, object]:
    return {
        "name": "bench",
        "goal": GOAL,
        "accept": [{"ask": ASK}],
        "limits": {"subtasks": subtasks, "parallel": subtasks, "calls": subtasks, "tokens": "100M"},
        "endpoints": {"fake": {"url": url}},
        "roles": {
            "planner": {"model": "fake:planner", "max_tokens": 24_000},
            "coder": {"model": "fake:worker"},
            "researcher": {"model": "fake:worker"},
            "critic": {"model": "fake:critic"},
        },
    }


async def whole_run(url: str, subtasks: int) -> float:
    """Run once in a new place and return the seconds."""
    with tempfile.TemporaryDirectory() as place:
        begun = perf_counter()
        outcome = await swarm.run(scenario(url, subtasks), home=f"{place}/home", out=f"{place}/out")
        took = perf_counter() - begun
    if outcome.outcome != "accepted" or outcome.model_calls != subtasks + 2:
        raise RuntimeError(f"not the run that was meant: {outcome.reason}")
    return took


async def sdk(url: str, calls: int) -> float:
    """Make as many calls at once with the bare SDK on its default transport, and return the seconds."""
    import openai  # noqa: PLC0415 - half a second, and memory, that only this one needs

    prompt = [{"role": "system", "content": prompt_of(Coder)}, {"role": "user", "content": instruction(1)}]
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
    """Return the prompts' size against the smallest that say the same: no titles, no frames, no blank lines."""
    known = answers(64)
    async with ChatEndpoint(lambda body: known[body["model"]], keep=100) as endpoint:
        await whole_run(endpoint.url, 64)
        sent = sum(len(message["content"]) for one in endpoint.requests for message in one.body["messages"])
    offers = [f"{role.name}: {role.about()}" for role in (Coder, Researcher)]
    results = [f"part-{number} {SENTENCE}" for number in range(64)]
    least = [
        *(prompt_of(Planner), GOAL, *offers),
        *(text for number in range(64) for text in (prompt_of(Coder), GOAL, instruction(number))),
        *(prompt_of(Critic), GOAL, ASK, *results),
    ]
    return sent / sum(map(len, least))


def peak_memory() -> float:
    """Return the peak memory of a process that makes the run of 64 subtasks once, in MiB."""
    program = (
        "import asyncio, resource, sys; from benchmarks.whole_run import whole_run; "
        "asyncio.run(whole_run(sys.argv[1], 64)); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
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
