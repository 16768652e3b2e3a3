"""The run that is measured: planner, subtasks side by side, one `ask`; each a model call, the durable log included."""

import tempfile
from contextlib import nullcontext
from time import perf_counter

import swarm

GOAL = "Explain each word of the list."
ASK = "Each word is explained."
SENTENCE = "It means what it says."


def instruction(number: int) -> str:
    return f"Say in one sentence what the word number {number} of the list means."


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


async def whole_run(url: str, subtasks: int, place: str | None = None) -> float:
    """Run once in a new place, or in `place`, and return the seconds."""
    with nullcontext(place) if place else tempfile.TemporaryDirectory() as folder:
        begun = perf_counter()
        outcome = await swarm.run(scenario(url, subtasks), home=f"{folder}/home", out=f"{folder}/out")
        took = perf_counter() - begun
    if outcome.outcome != "accepted" or outcome.model_calls != subtasks + 2:
        raise RuntimeError(f"not the run that was meant: {outcome.reason}")
    return took
