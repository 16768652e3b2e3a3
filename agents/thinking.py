"""One conversation with a model as effects: each ask reserved, tried, recorded, or answered from the journal."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from agents import tries
from agents.canonical import canonical_json, sha256_hex
from agents.conversation.steps import Ask
from agents.effects import Effects
from agents.errors import ModelFailed, RunMustPause
from agents.model import Model, ModelReply, ModelRequest, TryFailed
from bus.events import Message, ModelAnswered, ModelAsked, ModelTryFailed, Path, Usage
from bus.setup import RoleSetup

if TYPE_CHECKING:
    from pydantic import JsonValue

MESSAGE_TOKENS = 16
"""What a message may cost beyond its bytes: role, separators, the template around it."""


@dataclass(slots=True)
class Thinking:
    """What the asks of one conversation share. `timeout_s` bounds one try.

    `until`: the event loop's time at which the attempt ends.
    """

    effects: Effects
    model: Model
    role: str
    setup: RoleSetup
    attempt: int
    max_tokens: int
    temperature: float | None
    timeout_s: float
    until: float
    follows: Path | None = None
    _written: dict[int, tuple[Message, bytes]] = field(default_factory=dict)

    async def ask(self, ask: Ask) -> ModelReply | ModelTryFailed:
        """Return the reply to one ask, or the failure of its last try that the dialogue may mend (`too_long`).

        Raises `ModelFailed`, `RunMustPause`, `Diverged`.
        """
        with self.effects:
            return await self._ask(ask)

    async def _ask(self, ask: Ask) -> ModelReply | ModelTryFailed:
        path = self.effects.next_path()
        messages = self._canonical(ask)
        sampling: dict[str, JsonValue] = {} if self.temperature is None else {"temperature": self.temperature}
        tools = tuple(tool.name for tool in ask.tools)
        digest = sha256_hex(
            b'{"messages":%b,"model":%b,"sampling":%b,"tools":%b}'
            % (messages, canonical_json(self.setup.model), canonical_json(sampling), canonical_json(tools))
        )
        asked = ModelAsked(
            attempt=self.attempt,
            path=path,
            number=1,
            digest=digest,
            model=self.setup.model,
            messages=ask.new,
            follows=self.follows if ask.keeps else None,
            keeps=ask.keeps,
            tools=tools,
            sampling=sampling,
            input_bound=self._bound(ask, messages),
            max_tokens=self.max_tokens,
        )
        entry = self.effects.begin(asked)
        if entry is not None and entry.outcome is not None:
            outcome = await self.effects.recorded(entry)
        else:
            await self.effects.live()
            if entry is not None:
                asked = asked.model_copy(update={"number": entry.tries + 1})
            outcome = await self._tries(ask, asked)
        if isinstance(outcome, ModelAnswered):
            self.follows = path
            return ModelReply(outcome.text, outcome.usage, outcome.calls, outcome.finish, outcome.refusal)
        if isinstance(outcome, ModelTryFailed) and outcome.kind == "too_long":
            return outcome
        reason = outcome.reason if isinstance(outcome, ModelTryFailed) else "no outcome"
        raise ModelFailed(reason, retryable=getattr(outcome, "kind", "") != "refused")

    async def _tries(self, ask: Ask, asked: ModelAsked) -> ModelAnswered | ModelTryFailed:
        now = asyncio.get_running_loop().time
        began = now()
        answered_before = self.model.health.answered
        kinds: dict[str, int] = {}
        while True:
            granted = await self.effects.ask(asked)
            try:
                reply = await self.model.ask(self._request(ask, granted))
            except TryFailed as failure:
                kinds[failure.kind] = kinds.get(failure.kind, 0) + 1
                verdict = tries.after(
                    failure,
                    kinds[failure.kind],
                    self.model.health,
                    now() - began,
                    self.until - began,
                    random.random(),  # noqa: S311 - spreads the load, guards nothing
                    answered_before=answered_before,
                )
                failed = _failed(asked, failure, verdict)
                match verdict:
                    case tries.Again(wait_s):
                        await self.effects.tell(failed)
                        await asyncio.sleep(wait_s)
                    case tries.Pause(reason):
                        await self.effects.tell(failed)
                        raise RunMustPause(reason) from failure
                    case tries.GiveUp():
                        await self.effects.done(failed)
                        return failed
                asked = asked.model_copy(update={"number": asked.number + 1})
            else:
                answer = ModelAnswered(
                    attempt=asked.attempt,
                    path=asked.path,
                    number=asked.number,
                    text=reply.text,
                    calls=reply.calls,
                    finish=reply.finish,
                    refusal=reply.refusal,
                    usage=_believed(reply.usage, asked.input_bound, granted),
                )
                await self.effects.done(answer)
                return answer

    def _request(self, ask: Ask, max_tokens: int) -> ModelRequest:
        return ModelRequest(
            model=self.setup.model.partition(":")[2],
            messages=ask.messages,
            max_tokens=max_tokens,
            tools=ask.tools,
            temperature=self.temperature,
            answer_schema=ask.answer_schema,
            timeout_s=self.timeout_s,
            role=self.role,
        )

    def _canonical(self, ask: Ask) -> bytes:
        """Write the messages as canonical JSON; each is written once, however often it is sent."""
        parts = []
        for message in ask.messages:
            known = self._written.get(id(message))
            if known is None:
                known = self._written[id(message)] = message, canonical_json(message)
            parts.append(known[1])
        return b"[" + b",".join(parts) + b"]"

    def _bound(self, ask: Ask, messages: bytes) -> int:
        """Return more tokens than the endpoint can count: a token is at least a byte."""
        schemas = sum(tool.size for tool in ask.tools)
        answer = len(orjson.dumps(ask.answer_schema)) if ask.answer_schema is not None else 0
        return len(messages) + schemas + answer + MESSAGE_TOKENS * (len(ask.messages) + len(ask.tools))


def _believed(usage: Usage, input_bound: int, max_tokens: int) -> Usage:
    """Return a usage; what was only estimated is never more than was reserved for the call."""
    if not usage.estimated:
        return usage
    sent = min(usage.input, input_bound)
    return usage.model_copy(
        update={"input": sent, "output": min(usage.output, max_tokens), "cached": min(usage.cached, sent)}
    )


def _failed(asked: ModelAsked, failure: TryFailed, verdict: tries.Again | tries.GiveUp | tries.Pause) -> ModelTryFailed:
    wait_ms: int | None
    reason = str(failure)
    match verdict:
        case tries.Again(wait_s):
            wait_ms = int(wait_s * 1000)
        case tries.Pause():
            wait_ms = 0  # after the pause the same ask goes on with another try
        case tries.GiveUp(reason):  # with what a person can do about it
            wait_ms = None
    return ModelTryFailed(
        attempt=asked.attempt,
        path=asked.path,
        number=asked.number,
        kind=failure.kind,
        reason=reason,
        unproven=failure.unproven,
        wait_ms=wait_ms,
    )
