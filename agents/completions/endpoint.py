"""Chat Completions over the SDK: one call of `ask` is one try. Alone knows `openai`.

An `Endpoint` is shared by all models of this process that use the same URL and key: its connections, its count of calls
in flight, what it has refused, and its health. Which try follows a failed one is `tries.py`'s.
"""

import asyncio
import importlib
import json
import re
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import orjson
from pydantic import JsonValue

from agents.completions import shapes as chat_completions
from agents.completions.gate import CallGate
from agents.errors import ModelUnavailable
from agents.model import EndpointHealth, ModelReply, ModelRequest, TryFailed
from bus.events import CallRequest

if TYPE_CHECKING:
    from openai import AsyncOpenAI

OPENAI_HOST = "api.openai.com"
"""Its newer models refuse the older word for the most tokens of an answer."""
_NO_KEY = "none"
_MODELS_TIMEOUT_S = 10.0
_MODELS_SHOWN = 20
_LEAST_SECRET = 16
"""Characters of a key that is hidden wherever it stands.

Shorter ones are mostly no secrets, but what servers are given that ask for none (`test`, `ollama`, `x`), and words that
answers and code are made of: an answer without them would be another one. They are hidden in texts of failures alone,
as whole words.
"""

_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str | None], "Endpoint"]] = WeakKeyDictionary()


def shared_endpoint(url: str, key: str | None = None, *, key_name: str | None = None, calls: int = 64) -> "Endpoint":
    """Return the endpoint of this event loop for a URL and key; each user closes it once, the last one truly.

    Where users want different `calls`, the smallest counts. Raises `ModelUnavailable` for a URL or key of no use.
    """
    known = _shared.setdefault(asyncio.get_running_loop(), {})
    endpoint = known.get((url, key))
    if endpoint is None:
        endpoint = known[url, key] = Endpoint(url, key, key_name=key_name, calls=calls)
    endpoint.users += 1
    endpoint.gate.calls = min(endpoint.gate.calls, calls)
    endpoint.gate.limit = min(endpoint.gate.limit, calls)
    return endpoint


class Endpoint:
    """A base URL that speaks Chat Completions, such as `https://api.openai.com/v1`, and the key for it."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        key_name: str | None = None,
        calls: int = 64,
        health: EndpointHealth | None = None,
    ) -> None:
        self.url = url
        self.users = 0
        self.health = health or EndpointHealth()
        self.gate = CallGate(calls, self.health)
        self.given_up: dict[str, set[str]] = {}
        """By model: parameters that this endpoint has refused, and that are left out from then on."""
        self._capped_by: dict[str, tuple[str, ...]] = {}
        """By model: how the most tokens of an answer are said, where the usual way was ignored."""
        self._key = _checked_key(key, key_name)
        self._key_name = key_name
        self._client: AsyncOpenAI | None = None
        self._opening = asyncio.Lock()
        parts = urlsplit(url)
        self._caps = chat_completions.CAPS[::-1] if parts.hostname == OPENAI_HOST else chat_completions.CAPS
        self._secure = parts.scheme == "https"  # only then the file of certificate authorities is read
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise ModelUnavailable(
                f"{_without_login(url)!r} is no URL of an endpoint.", "Write it as https://host/v1, the key apart."
            )

    async def ask(self, request: ModelRequest) -> ModelReply:
        """Make one try. Raises `TryFailed`; cancellation passes through."""
        given_up = self.given_up.setdefault(request.model, set())
        body = chat_completions.body(request, given_up, self.caps_for(request.model))
        sent = _encoded(body)
        async with self.gate.turn(request.timeout_s) as turn:
            answered, headers, content = await self._exchange("post", "chat/completions", sent, request.timeout_s)
            status = chat_completions.meant_status(answered, content)
            if status < 300:  # noqa: PLR2004
                reply = self._safe(chat_completions.read(content, request, len(sent), self._hidden))
                self.gate.answered()
                if reply.usage.output > request.max_tokens and not reply.usage.estimated:
                    self._capped_by[request.model] = self._caps[::-1]  # it was ignored: say it in the other word
                return reply
            if named := chat_completions.parameter_named(status, content, body):
                given_up.add(named)
                words = chat_completions.error_of(content, self._hidden)[0]
                raise TryFailed("parameter", f"{named!r} is not understood and left out: {words}", status=status)
            failure = chat_completions.failure(status, headers, content, datetime.now(UTC), self._hidden)
            if status != answered:
                failure.args = (f"{failure} (in an answer of HTTP {answered})",)
                failure.unproven |= failure.kind == "server"  # it may have broken off late
            if failure.kind == "rate_limited":
                self.gate.refused(turn, failure.retry_after_s)
        if failure.kind == "unavailable" and not failure.remedy:
            failure.remedy = await self._remedy(status, request.model)
        raise failure

    def caps_for(self, model: str) -> tuple[str, ...]:
        """Return the words for the most tokens of an answer, the better one first."""
        return self._capped_by.get(model, self._caps)

    async def models(self) -> tuple[str, ...]:
        """Return the names that the endpoint lists under `/models`. Raises `TryFailed`."""
        status, headers, content = await self._exchange("get", "models", b"", _MODELS_TIMEOUT_S)
        if status >= 300:  # noqa: PLR2004
            raise chat_completions.failure(status, headers, content, datetime.now(UTC), self._hidden)
        try:
            listed = orjson.loads(content)["data"]
            return tuple(self._without_secret(str(model["id"])) for model in listed)
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            shown = chat_completions.quote(content, hide=self._hidden)
            raise TryFailed("nonsense", f"no list of models: {shown!r}") from error

    async def close(self) -> None:
        """Let go; the last user closes the connections."""
        self.users -= 1
        if self.users > 0:
            return
        known = _shared.get(asyncio.get_running_loop(), {})
        if known.get((self.url, self._key)) is self:
            del known[self.url, self._key]
        client, self._client = self._client, None
        if client:
            await client.close()

    async def _exchange(
        self, method: str, path: str, sent: bytes, timeout_s: float
    ) -> tuple[int, dict[str, str], bytes]:
        """Return (status, headers, body) of one request. Raises `TryFailed`."""
        client = await self._opened()
        import httpx2  # noqa: PLC0415  # loaded with the SDK
        import openai  # noqa: PLC0415

        try:
            async with asyncio.timeout(timeout_s):
                if method == "post":
                    answer = await client.post(path, content=sent, cast_to=httpx2.Response)
                else:
                    answer = await client.get(path, cast_to=httpx2.Response)
        except openai.APIStatusError as error:
            answer = error.response
        except TimeoutError as error:
            raise TryFailed("lost", f"no whole answer within {timeout_s:g} s", unproven=True) from error
        except TryFailed as failure:
            failure.args = (self._hidden(str(failure)),)
            raise failure from None
        return answer.status_code, dict(answer.headers), answer.content

    async def _opened(self) -> "AsyncOpenAI":
        """Return the client; the first call loads the SDK, in a thread, since that takes half a second."""
        async with self._opening:
            if self._client is None:
                await asyncio.to_thread(_load)
                context = await asyncio.to_thread(ssl.create_default_context) if self._secure else None
                self._client = self._made(context)
            return self._client

    def _made(self, context: ssl.SSLContext | None) -> "AsyncOpenAI":
        import httpx2  # noqa: PLC0415
        import openai  # noqa: PLC0415

        from agents.completions.transport import BoundedTransport  # noqa: PLC0415

        transport = BoundedTransport(context, self._key)
        return openai.AsyncOpenAI(
            base_url=self.url,
            api_key=_NO_KEY,  # the transport alone holds the key, so that nothing in the environment can replace it
            admin_api_key="",
            organization="",
            project="",
            webhook_secret="",
            max_retries=0,
            timeout=None,
            http_client=httpx2.AsyncClient(transport=transport, trust_env=False, timeout=None),
        )

    async def _remedy(self, status: int, model: str) -> str:
        """Return what a person can do about a key or a model that is not taken."""
        if status in {401, 403}:
            return f"Check the key in {self._key_name}." if self._key_name else "Check the endpoint's key."
        try:
            names = await self.models()
        except TryFailed as failure:
            return f"Check the model's name {model!r} and the URL {self.url!r} (its list of models: {failure})."
        more = f" and {len(names) - _MODELS_SHOWN} more" if len(names) > _MODELS_SHOWN else ""
        return f"Models there: {', '.join(names[:_MODELS_SHOWN])}{more}."

    def _hidden(self, text: str) -> str:
        """Return the text of a failure without our key."""
        if not self._key or len(self._key) >= _LEAST_SECRET:
            return self._without_secret(text)
        return re.sub(rf"(?<!\w){re.escape(self._key)}(?!\w)", "***", text)

    def _without_secret(self, text: str) -> str:
        """Return a text without our key, where that can be a secret."""
        return text.replace(self._key, "***") if self._key and len(self._key) >= _LEAST_SECRET else text

    def _safe(self, reply: ModelReply) -> ModelReply:
        """Return a reply without our key, should the other side repeat it: what is answered is recorded."""
        hide = self._without_secret
        return replace(
            reply,
            text=reply.text and hide(reply.text),
            refusal=reply.refusal and hide(reply.refusal),
            calls=tuple(
                CallRequest(id=hide(call.id), name=hide(call.name), arguments=hide(call.arguments))
                for call in reply.calls
            ),
        )


def _load() -> None:
    for name in ("openai", "agents.completions.transport"):
        importlib.import_module(name)


def _encoded(body: dict[str, JsonValue]) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # half a surrogate pair from a tool's output, or an integer beyond 64 bits
        return json.dumps(body, ensure_ascii=False).encode(errors="replace")


def _checked_key(key: str | None, name: str | None) -> str | None:
    if key and not (key.isascii() and key.isprintable()):
        raise ModelUnavailable(f"The key in {name or 'use'} holds characters that no header takes.", "Set it anew.")
    return key or None


def _without_login(url: str) -> str:
    return url.rsplit("@", 1)[-1]
