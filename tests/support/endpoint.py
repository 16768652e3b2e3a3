"""A Chat Completions endpoint on a free loopback port: real HTTP, every fault at the turn of a switch.

    async with ChatEndpoint(answers=["hello", Answer(calls=[("read_file", {"path": "a"})])]) as endpoint: ...
    async with ChatEndpoint(responder=reply, faults=["429:2", None, "reset"]) as endpoint: ...
    python -m tests.support.endpoint --port 8090 --fault 500=0.2 --fault drip=0.05 --seed 7

A fault is a word of `FAULTS`, with `:` and a value where one is needed. Faults come by `faults` (one a request, in
order, None for none), by `chances` (fault -> probability, drawn from `seed`), or by `rule` (request body -> fault).
"""

import argparse
import asyncio
import email.utils
import gzip
import json
import random
import socket
import struct
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from aiohttp import web

Body = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the model says. `calls`: (tool, arguments), arguments as an object or as the text to send."""

    text: str | None = None
    calls: Sequence[tuple[str, object]] = ()
    finish: str | None = None
    usage: Mapping[str, Any] | None = None
    refusal: str | None = None


Reply = str | Answer
Responder = Callable[[Body], Reply | Awaitable[Reply]]


@dataclass(frozen=True)
class Received:
    """One request that came in."""

    path: str
    body: Body
    headers: Mapping[str, str]
    fault: str | None
    at: float = field(default_factory=time.monotonic)


class ChatEndpoint:
    """The server. Without `responder` and `answers` it says `ok`; used-up `answers` are an error 500 that says so.

    `fixed`: one text that answers everything, its bytes made once and the requests not parsed: for benchmarks.
    `key`: the bearer key it insists on. `latency_s`: before each answer. `keep`: how many requests are kept.
    """

    def __init__(
        self,
        responder: Responder | None = None,
        *,
        answers: Iterable[Reply] | None = None,
        fixed: str | None = None,
        faults: Iterable[str | None] = (),
        chances: Mapping[str, float] | None = None,
        rule: Callable[[Body], str | None] | None = None,
        seed: int = 0,
        key: str | None = None,
        models: Sequence[str] = ("test-model",),
        latency_s: float = 0.0,
        keep: int = 1000,
        port: int = 0,
    ) -> None:
        self.answers = deque(answers) if answers is not None else None
        self.responder = responder
        self.faults = deque(faults)
        self.chances = dict(chances or {})
        self.rule = rule
        self.chance = random.Random(seed)
        self.key = key
        self.models = list(models)
        self.latency_s = latency_s
        self.port = port
        self.requests: deque[Received] = deque(maxlen=keep)
        self.count = 0
        """Chat requests so far."""
        self.together = 0
        """The most that were being answered at once."""
        self.met: Counter[str] = Counter()
        """How often each fault was shown."""
        self.arrived = asyncio.Event()
        """Set once a first chat request has come in."""
        self.stopping = asyncio.Event()
        self._now = 0
        self._fixed = completion(Answer(fixed), {}) if fixed is not None else None
        self._runner: web.ServerRunner | None = None

    @property
    def url(self) -> str:
        """The base URL, `/v1` included."""
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shut()

    async def listen(self) -> None:
        """Begin to listen, on the same port as before if there was one."""
        self.stopping.clear()
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def shut(self) -> None:
        """Stop listening and drop all connections: from now on they are refused."""
        self.stopping.set()
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    @asynccontextmanager
    async def refusing(self) -> Any:
        """Refuse connections for as long as this is open."""
        await self.shut()
        yield
        await self.listen()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/models"):
            if denied := self._denied(request):
                return denied
            data = [{"id": name, "object": "model", "owned_by": "tests"} for name in self.models]
            return web.json_response({"object": "list", "data": data})
        if not request.path.endswith("/chat/completions"):
            return error(404, f"no such path {request.path}")
        self.count += 1
        self.arrived.set()
        self._now += 1
        self.together = max(self.together, self._now)
        try:
            return await self._chat(request)
        finally:
            self._now -= 1

    async def _chat(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.content.read()  # read() would refuse a long prompt
        if self._fixed is not None:
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            return web.Response(body=self._fixed, content_type="application/json")
        body: Body = orjson.loads(raw)
        fault = self._fault(body)
        self.requests.append(Received(request.path, body, dict(request.headers), fault))
        if denied := self._denied(request):
            return denied
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        if fault is not None:
            self.met[fault.partition(":")[0]] += 1
            name, _, value = fault.partition(":")
            shown = await FAULTS[name](self, request, body, value)
            if shown is not None:
                return shown
        try:
            answer = await self.answer(body)
        except IndexError:
            return error(500, "the scripted answers are used up")
        return web.Response(body=completion(answer, body), content_type="application/json")

    async def answer(self, body: Body) -> Answer:
        """Return what the model says to a request. Raises `IndexError` where the scripted answers are used up."""
        reply: Reply | Awaitable[Reply] = "ok"
        if self.answers is not None:
            reply = self.answers.popleft()
        elif self.responder is not None:
            reply = self.responder(body)
        if isinstance(reply, Awaitable):
            reply = await reply
        return Answer(reply) if isinstance(reply, str) else reply

    def _denied(self, request: web.BaseRequest) -> web.Response | None:
        if self.key is None or request.headers.get("Authorization") == f"Bearer {self.key}":
            return None
        return error(401, "Incorrect API key provided", code="invalid_api_key")

    def _fault(self, body: Body) -> str | None:
        if self.faults:
            return self.faults.popleft()
        if self.rule and (fault := self.rule(body)):
            return fault
        drawn = self.chance.random() if self.chances else 1.0
        for fault, probability in self.chances.items():
            drawn -= probability
            if drawn < 0:
                return fault
        return None


def completion(answer: Answer, body: Body, **changes: Any) -> bytes:
    """Return the bytes of a whole answer; `changes` replace fields of its message."""
    message: Body = {"role": "assistant", "content": answer.text}
    if answer.refusal is not None:
        message["refusal"] = answer.refusal
    if answer.calls:
        message["tool_calls"] = [
            {
                "id": f"call-{number}",
                "type": "function",
                "function": {
                    "name": name,
                    "arguments": arguments if isinstance(arguments, str) else json.dumps(arguments),
                },
            }
            for number, (name, arguments) in enumerate(answer.calls, 1)
        ]
    message |= changes
    usage = answer.usage
    if usage is None:
        sent = len(orjson.dumps(body.get("messages", []))) // 4 + 1
        written = len(orjson.dumps(message)) // 4
        usage = {"prompt_tokens": sent, "completion_tokens": written, "total_tokens": sent + written}
    finish = answer.finish or ("tool_calls" if answer.calls else "stop")
    choice = {"index": 0, "message": message, "finish_reason": finish}
    whole = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": body.get("model", "test-model")}
    return orjson.dumps({**whole, "choices": [choice], "usage": usage})


def error(
    status: int, message: str, *, param: str | None = None, code: str | None = None, **headers: str
) -> web.Response:
    """Return an error in OpenAI's shape."""
    told = {"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}}
    return web.json_response(told, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})


# The faults: each gets the server, the request, its body, and the value after the colon; None goes on to the answer.

Fault = Callable[[ChatEndpoint, web.BaseRequest, Body, str], Awaitable[web.StreamResponse | None]]


async def _rate_limit(_: ChatEndpoint, _request: web.BaseRequest, _body: Body, value: str) -> web.StreamResponse:
    """`429`: no Retry-After; `429:2`: seconds; `429:date+2`: as a date."""
    if value.startswith("date"):
        value = email.utils.formatdate(time.time() + float(value[4:] or 1), usegmt=True)
    headers = {"Retry_After": value} if value else {}
    return error(429, "Rate limit reached for requests", code="rate_limit_exceeded", **headers)


def _status(status: int, message: str, *, param: str | None = None, code: str | None = None) -> Fault:
    """`503`: no Retry-After; `503:2`: seconds. Of other statuses the value stands in the message."""

    async def show(_: ChatEndpoint, _request: web.BaseRequest, _body: Body, value: str) -> web.StreamResponse:
        headers = {"Retry_After": value} if value and status >= 500 else {}
        return error(status, message.format(value), param=param.format(value) if param else None, code=code, **headers)

    return show


async def _no_answer(server: ChatEndpoint, _request: web.BaseRequest, _body: Body, _value: str) -> web.StreamResponse:
    await server.stopping.wait()
    return error(503, "shutting down")


def _abort(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is not None:
        endpoint: socket.socket = transport.get_extra_info("socket")
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


async def _reset(_: ChatEndpoint, request: web.BaseRequest, _body: Body, _value: str) -> web.StreamResponse:
    _abort(request)
    return web.Response()


async def _reset_midway(server: ChatEndpoint, request: web.BaseRequest, body: Body, _: str) -> web.StreamResponse:
    whole = completion(await server.answer(body), body)
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": str(len(whole))})
    await response.prepare(request)
    await response.write(whole[: len(whole) // 2])
    _abort(request)
    return response


async def _drip(server: ChatEndpoint, request: web.BaseRequest, body: Body, value: str) -> web.StreamResponse:
    """`drip`: a byte every 10 ms, `drip:0.5`: every half second; until the client has enough of it."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    for byte in completion(await server.answer(body), body):
        try:
            await response.write(bytes([byte]))
            await asyncio.wait_for(server.stopping.wait(), float(value or 0.01))
        except TimeoutError:
            continue
        except ConnectionResetError:
            break
        break
    return response


async def _refused_parameter(
    _server: ChatEndpoint, _request: web.BaseRequest, body: Body, value: str
) -> web.StreamResponse | None:
    """`parameter:temperature`: a 400 for as long as the request holds it."""
    if value not in body:
        return None
    said = f"Unsupported parameter: '{value}' is not supported with this model."
    return error(400, said, param=value, code="unsupported_parameter")


def _raw(content: bytes, content_type: str = "application/json", **headers: str) -> Fault:
    async def show(_: ChatEndpoint, _request: web.BaseRequest, _body: Body, _value: str) -> web.StreamResponse:
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        return web.Response(body=content, content_type=content_type, headers=named)

    return show


async def _error_inside(
    _server: ChatEndpoint, _request: web.BaseRequest, _body: Body, value: str
) -> web.StreamResponse:
    """`error_inside:429`: a success that holds an error of that status."""
    return web.json_response({"error": {"code": int(value or 429), "message": "Provider returned error"}})


def _changed(change: Callable[[Body], None]) -> Fault:
    """Return a fault that takes the right answer and changes it."""

    async def show(server: ChatEndpoint, _request: web.BaseRequest, body: Body, _: str) -> web.StreamResponse:
        whole = orjson.loads(completion(await server.answer(body), body))
        change(whole)
        return web.json_response(whole)  # orjson writes no integer beyond 64 bits

    return show


async def _truncated(server: ChatEndpoint, _request: web.BaseRequest, body: Body, _: str) -> web.StreamResponse:
    whole = completion(await server.answer(body), body)
    return web.Response(body=whole[: len(whole) // 2], content_type="application/json")


def _message(**changes: Any) -> Fault:
    return _changed(lambda whole: whole["choices"][0]["message"].update(changes))


def _finish(reason: str, **changes: Any) -> Fault:
    def change(whole: Body) -> None:
        whole["choices"][0]["finish_reason"] = reason
        whole["choices"][0]["message"].update(changes)

    return _changed(change)


def _usage(**changes: Any) -> Fault:
    return _changed(lambda whole: whole["usage"].update(changes))


def _call(identity: str | None, name: str, arguments: str) -> Body:
    call: Body = {"type": "function", "function": {"name": name, "arguments": arguments}}
    return call if identity is None else {"id": identity, **call}


async def _huge(_: ChatEndpoint, request: web.BaseRequest, _body: Body, _value: str) -> web.StreamResponse:
    """Answer without end, until the client has enough of it."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"choices": [{"message": {"content": "')
    block = b"x" * 262_144
    for _number in range(256):
        try:
            await response.write(block)
        except ConnectionResetError:
            break
    return response


async def _gzip_bomb(_: ChatEndpoint, _request: web.BaseRequest, _body: Body, _value: str) -> web.StreamResponse:
    squeezed = await asyncio.to_thread(gzip.compress, b" " * (64 * 1024 * 1024), 1)
    return web.Response(body=squeezed, content_type="application/json", headers={"Content-Encoding": "gzip"})


async def _zipped(server: ChatEndpoint, _request: web.BaseRequest, body: Body, _: str) -> web.StreamResponse:
    whole = gzip.compress(completion(await server.answer(body), body))
    return web.Response(body=whole, content_type="application/json", headers={"Content-Encoding": "gzip"})


async def _redirect(_: ChatEndpoint, _request: web.BaseRequest, _body: Body, value: str) -> web.StreamResponse:
    """`redirect:http://127.0.0.1:1/v1`: to there."""
    return web.Response(status=307, headers={"Location": value or "http://localhost:9/v1/chat/completions"})


FAULTS: dict[str, Fault] = {
    "429": _rate_limit,
    "quota": _status(429, "You exceeded your current quota", code="insufficient_quota"),
    "500": _status(500, "The server had an error"),
    "502": _status(502, "Bad gateway"),
    "503": _status(503, "Overloaded"),
    "529": _status(529, "Overloaded"),
    "401": _status(401, "Incorrect API key provided: {}", code="invalid_api_key"),
    "403": _status(403, "Country, region, or territory not supported"),
    "404": _status(404, "The model `{}` does not exist", code="model_not_found"),
    "418": _status(418, "I do not like this: {}"),
    "too_long": _status(
        400, "This model's maximum context length is 8192 tokens.", param="messages", code="context_length_exceeded"
    ),
    "parameter": _refused_parameter,
    "no_answer": _no_answer,
    "reset": _reset,
    "reset_midway": _reset_midway,
    "drip": _drip,
    "html": _raw(b"<!doctype html><h1>Sign in</h1>", "text/html"),
    "truncated": _truncated,
    "wrong_schema": _raw(b'{"result": {"answer": "42"}}'),
    "error_inside": _error_inside,
    "error_in_choice": _changed(lambda whole: whole["choices"][0].update(error={"code": 502, "message": "It died."})),
    "empty_choices": _changed(lambda whole: whole.update(choices=[])),
    "null_content": _message(content=None),
    "content_filter": _finish("content_filter", content=None),
    "filter_with_reason": _finish("content_filter: PROHIBITED_CONTENT", content=None),
    "safety": _finish("SAFETY", content=None),
    "finish_error": _finish("error"),
    "odd_content": _message(content=7),
    "null_everything": _changed(lambda whole: whole.update(choices=[{"message": {"content": None}}], usage=None)),
    "only_thoughts": _message(content=None, reasoning_content="I had better say nothing."),
    "refusal": _message(content=None, refusal="I can't help with that."),
    "length": _finish("length"),
    "broken_call": _finish("tool_calls", content=None, tool_calls=[_call("a", "read_file", '{"path": "x')]),
    "unknown_tool": _finish("tool_calls", content=None, tool_calls=[_call("a", "launch", "{}")]),
    "duplicate_ids": _finish("tool_calls", tool_calls=[_call("a", "one", "{}"), _call("a", "two", "{}")]),
    "missing_ids": _finish("tool_calls", tool_calls=[_call(None, "one", "{}"), _call("", "two", "{}")]),
    "calls_with_stop": _finish("stop", content=None, tool_calls=[_call("a", "read_file", "{}")]),
    "cut_call": _finish("length", content=None, tool_calls=[_call("a", "read_file", '{"path": "x')]),
    "filtered_call": _finish("content_filter", content=None, tool_calls=[_call("a", "read_file", "{}")]),
    "huge": _huge,
    "gzip_bomb": _gzip_bomb,
    "gzip": _zipped,
    "broken_gzip": _raw(b"this is no gzip", Content_Encoding="gzip"),
    "redirect": _redirect,
    "usage_missing": _changed(lambda whole: whole.pop("usage")),
    "usage_negative": _usage(prompt_tokens=-5, completion_tokens=-1),
    "usage_zero": _usage(prompt_tokens=0, completion_tokens=0),
    "usage_absurd": _usage(prompt_tokens=10**18, completion_tokens=10**30),
    "usage_words": _usage(prompt_tokens="many", completion_tokens=None),
}


async def _serve(asked: argparse.Namespace) -> None:
    chances = {name: float(part or 1) for name, _, part in (text.partition("=") for text in asked.fault)}
    unknown = [name for name in chances if name.partition(":")[0] not in FAULTS]
    if unknown:
        raise SystemExit(f"unknown faults {unknown}; known: {', '.join(FAULTS)}")
    async with ChatEndpoint(
        fixed=asked.fixed,
        responder=lambda _: asked.reply,
        chances=chances,
        seed=asked.seed,
        key=asked.key,
        latency_s=asked.latency_s,
        port=asked.port,
    ) as endpoint:
        print(f"listening at {endpoint.url}", flush=True)
        await asyncio.Event().wait()


def main() -> None:
    """Serve by hand."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--fault", action="append", default=[], metavar="NAME[:VALUE][=PROBABILITY]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reply", default="ok", help="what the model says")
    parser.add_argument("--fixed", help="the same, without looking at the request: fastest, no faults")
    parser.add_argument("--key", help="insist on this key")
    parser.add_argument("--latency-s", type=float, default=0.0)
    try:
        asyncio.run(_serve(parser.parse_args()))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
