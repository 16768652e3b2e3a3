"""A run that meets all that a conversation may meet: tools, rejections, both modes, a window that is too small, faults.

async with ChatEndpoint(answers(mode), faults=FAULTS) as endpoint:
    outcome = await start(tmp_path, busy(endpoint), **ROLE, dialogue=mode)
"""

import json
from typing import Any

from agents.conversation.json_actions import OPENING
from agents.conversation.messages import Mode
from tests.support.endpoint import Answer, Body, ChatEndpoint, Reply
from tests.support.runs import PROMPTS, role_of, scenario

ROLE = {"window": 2_900, "max_tokens": 600}
"""Changes of every role's setup that leave little room."""
FAULTS = ("429:0", None, "truncated", "429:0", *[None] * 8, "too_long")
"""The first requests meet these; each is got over. What is too long comes when there is something to shorten."""
FILES = 6
"""How many files a coder writes in an attempt, each large for the window."""
WRITTEN = "y" * 1_500


def busy(at: ChatEndpoint | str, **more: Any) -> dict[str, Any]:
    """Return the scenario: two subtasks, each rejected once by a check, and a critic who looks before it judges."""
    plan = [
        {
            "id": name,
            "role": "coder",
            "do": f"Write {name}.",  # of two files, so that a small model too works with tools
            "accept": [{"text": f"{name}.txt", "contains": ["mended"]}, {"file": f"{name}-1.txt"}],
        }
        for name in ("north", "south")
    ]
    return scenario(at, plan=plan, accept=[{"ask": "All is well."}], **more)


def answers(mode: Mode = "native") -> Any:
    """Return a responder that reaches the goal; it looks at nothing but the request."""

    def respond(body: Body) -> Reply:
        said = _said(body)
        told = str(body["messages"][0]["content"])
        return _as_action(said, told) if mode == "json" and OPENING in told else said

    return respond


def _said(body: Body) -> Answer:
    turn = sum(message["role"] == "assistant" for message in body["messages"])
    task = str(next(message for message in body["messages"] if message["role"] == "user")["content"])
    if role_of(body) == "critic":
        if turn == 0:
            return Answer("I look.", calls=[("read_file", {"path": "north.txt"}), ("list_files", {})])
        return Answer(json.dumps({"reasons": "all is there", "accepted": True}))
    name = "north" if "Write north." in task else "south"
    if turn < FILES:
        return Answer(calls=[("write_file", {"path": f"{name}-{turn}.txt", "content": WRITTEN})])
    if turn == FILES:
        word = "mended" if "An earlier attempt was not accepted" in task else "broken"
        return Answer(f"I write {name}.", calls=[("write_file", {"path": f"{name}.txt", "content": word})])
    return Answer(f"{name} is <|im_end|> written.")


def _as_action(said: Answer, told: str) -> Answer:
    if said.calls:
        tool, arguments = said.calls[0]
        return Answer(json.dumps({"action": "call_tool", "tool": tool, "arguments": arguments}) + " so I say")
    if told.startswith(next(start for start, role in PROMPTS.items() if role == "critic")):
        return Answer(json.dumps({"action": "answer", "answer": json.loads(said.text or "")}))
    return Answer("<think>well</think>" + json.dumps({"action": "answer", "text": said.text}))
