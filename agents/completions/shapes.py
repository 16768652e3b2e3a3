"""Chat Completions without a network: a request as a body, an answer as a reply, a refusal as a failed try.

Endpoints differ in what they understand and in how they say no. What is known of that stands here; `endpoint.py` sends
and remembers.
"""

import email.utils
import math
import re
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Literal

import orjson
from pydantic import JsonValue

from agents.model import ModelReply, ModelRequest, TryFailed, TryKind
from bus.events import CallRequest, Message, Usage

CAPS = ("max_tokens", "max_completion_tokens")
"""How the most tokens of an answer are said. Many endpoints know only the older word, and pass over the newer one in
silence; those that want the newer one refuse the older by name."""
OPTIONAL = ("max_completion_tokens", "max_tokens", "temperature", "response_format")
"""Parameters that we can do without, each left out once an endpoint has refused it by name."""

ABSURD_TOKENS = 1_000_000_000
"""No context window comes near it: a larger figure is no figure."""

_MOST_BYTES_A_TOKEN = 32
_THOUGHTS = ("reasoning_content", "reasoning")
"""Where a message has a model's thoughts, one or both alike; they are billed, and no part of what it says."""
_ALIASES = {"response_format": re.compile(r"response[_ ](format|schema)|json[_ ]schema", re.IGNORECASE)}
_TOO_LONG = re.compile(
    r"context[ _](length|window|size)|maximum (context|model|prompt) length|too many tokens|(prompt|input) is too long"
    r"|token count .{0,40}exceeds|must have less than \d+ tokens|`max_new_tokens` must be <=",
    re.IGNORECASE,
)
_NO_CREDIT = re.compile(
    r"credit balance is too low|insufficient (account )?(balance|credits?|funds|quota)|quota is not enough",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(
    r"not a valid model|invalid model\b|unknown model|\bmodel\b.{0,80}\b(not exist|not found)\b", re.IGNORECASE
)
_TOOLS = re.compile(
    r"tool|call(ing)? (a )?function|function[ _]call|thought_signature|\bmissing\b.{0,20}reasoning_content",
    re.IGNORECASE,
)
"""What refuses tool calls, or wants back with them what only this endpoint has."""
_FLAGGED = re.compile(r"flagged|moderation", re.IGNORECASE)
_NO_CREDIT_CODES = frozenset(
    {"insufficient_quota", "insufficient_user_quota", "billing_not_active", "billing_hard_limit_reached"}
)
_NO_SOUND_WORDS = frozenset({"tool_use_failed", "json_validate_failed"})
"""Codes that say that the model wrote no sound call or object, and that the endpoint kept it to itself."""
_CONTEXT_SIZE = re.compile(r"(?:context[ _](?:length|window|size)|at most|maximum)\D{0,40}?(\d{3,})", re.IGNORECASE)

Hide = Callable[[str], str]
"""Takes out of what a failure quotes what nobody may read."""

_Finish = Literal["stop", "length", "tool_calls", "content_filter"]
_FINISH: dict[str, _Finish] = {
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "safety": "content_filter",
    "recitation": "content_filter",
}
"""By the reason's first word in small letters; some say more after a colon."""


def body(request: ModelRequest, given_up: AbstractSet[str], caps: Sequence[str] = CAPS) -> dict[str, JsonValue]:
    """Return what is posted to `/chat/completions`, without the parameters that are given up.

    `caps`: both words for the most tokens of an answer, the one that is used where it is not given up first.
    """
    made: dict[str, JsonValue] = {"model": request.model, "messages": list(request.messages)}
    for name in caps:
        if name not in given_up:
            made[name] = request.max_tokens
            break
    if request.temperature is not None and "temperature" not in given_up:
        made["temperature"] = request.temperature
    if request.tools:
        made["tools"] = [
            {
                "type": "function",
                "function": {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)},
            }
            for tool in request.tools
        ]
    if request.answer_schema is not None:
        schema = dict(request.answer_schema)
        if "response_format" not in given_up:
            made["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
        else:  # the model must learn the shape from somewhere
            wish = f"Answer with JSON alone, fitting this JSON schema: {orjson.dumps(schema).decode()}"
            made["messages"] = _with_wish(request.messages, wish)
    return made


def _with_wish(messages: Sequence[Message], wish: str) -> list[JsonValue]:
    """Add to what the user said last: many templates take no two messages of a user in a row."""
    last = messages[-1] if messages else {}
    if last.get("role") == "user" and isinstance(last.get("content"), str):
        return [*messages[:-1], {**last, "content": f"{last['content']}\n\n{wish}"}]
    return [*messages, {"role": "user", "content": wish}]


def read(content: bytes, request: ModelRequest, sent_bytes: int, hide: Hide = str) -> ModelReply:
    """Return the reply that an answer holds, as it is. Raises `TryFailed` of kind `nonsense`.

    `sent_bytes`: size of the request as sent; the usage is judged by it.
    """
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise _nonsense("no JSON", content, hide) from error
    choice = _first_choice(answer)
    message = choice.get("message") if choice else None
    if choice is None or not isinstance(message, dict):
        raise _nonsense("no choices with a message", content, hide)
    text, refusal = _text(message.get("content")), message.get("refusal")
    calls = _calls(message.get("tool_calls"))
    known = text is not None or message.get("content") is None  # a model that only thought says nothing: no fault
    if not known or calls is None or (refusal is not None and not isinstance(refusal, str)):
        raise _nonsense("a message of an unknown shape", content, hide)
    reason = str(choice.get("finish_reason")).partition(":")[0].strip().lower()
    if reason == "error":
        raise _nonsense("one that broke off with an error", content, hide)
    finish = _FINISH.get(reason, "stop")
    if finish in {"stop", "tool_calls"}:  # endpoints take one for the other; that an answer was cut off they alone know
        finish = "tool_calls" if calls else "stop"
    answered = _size(text or refusal) + sum(len(call.name) + _size(call.arguments) for call in calls)
    answered += max(_size(message.get(name)) for name in _THOUGHTS)
    usage = _usage(answer.get("usage"), sent_bytes, answered, request.max_tokens)
    if text is None and not answered and finish == "stop" and usage.estimated:
        raise _nonsense("neither text nor tool calls, nor what they cost", content, hide)
    return ModelReply(text, usage, calls, finish, refusal or None)


def meant_status(status: int, content: bytes) -> int:
    """Return the status that an answer means: some endpoints send a refusal as a success, with the status inside."""
    if status >= 300 or b'"error"' not in content:  # noqa: PLR2004
        return status
    try:
        told = _told(orjson.loads(content))
    except orjson.JSONDecodeError:
        return status
    code = told.get("code") if isinstance(told, dict) else None
    if isinstance(code, str) and re.fullmatch("[45][0-9]{2}", code):
        return int(code)
    return code if type(code) is int and 400 <= code < 600 else status  # noqa: PLR2004


def parameter_named(status: int, content: bytes, sent: Mapping[str, JsonValue]) -> str | None:
    """Return the optional parameter of ours that a refusal names, None where it is about something else."""
    if status not in {400, 422}:
        return None
    message, param, code = error_of(content)
    if _is_too_long(message, code):
        return None
    ours = [name for name in OPTIONAL if name in sent]
    if param in ours:
        return param
    found = {name: match.start() for name in ours if (match := _pattern(name).search(message))}
    return min(found, key=lambda name: found[name]) if found else None


def failure(status: int, headers: Mapping[str, str], content: bytes, now: datetime, hide: Hide = str) -> TryFailed:
    """Return what an answer with an error status comes to; parameters are `parameter_named`'s.

    `now` (with a zone) is for a `Retry-After` that is a date.
    """
    message, _, code = error_of(content, hide)
    kind, remedy = _meaning(status, message, code)
    words = f"HTTP {status}: {message}"
    if kind == "too_long":
        size = _CONTEXT_SIZE.search(message)
        window = f" (context window: {size.group(1)} tokens)" if size else ""
        words = f"the messages do not fit the model{window}: {words}"
    wait = retry_after(headers, now) if kind in {"rate_limited", "server"} else None
    unproven = kind in {"nonsense", "lost"}  # the model was asked, and what it wrote may be billed
    return TryFailed(kind, words, unproven=unproven, retry_after_s=wait, status=status, remedy=remedy)


def _meaning(status: int, message: str, code: str | None) -> tuple[TryKind, str]:  # noqa: PLR0911 - a return for each
    """Return what a refusal comes to, and what a person can do about it."""
    bad, forbidden = status in {400, 422}, status == 403  # noqa: PLR2004
    tools = "Set `dialogue: json` for this role." if _TOOLS.search(f"{message} {code}") else ""
    no_credit = (bad or forbidden) and _NO_CREDIT.search(message)
    if no_credit or status == 402 or code in _NO_CREDIT_CODES:  # noqa: PLR2004
        return "unavailable", "The account behind the key has no credit left."
    if status == 429:  # noqa: PLR2004
        return "rate_limited", ""
    if status in {504, 524}:  # a gateway that waited for whoever has the request
        return "lost", ""
    if status >= 500 or status == 408:  # noqa: PLR2004
        return "server", tools
    if forbidden and _FLAGGED.search(message):
        return "refused", ""
    if status == 404:  # noqa: PLR2004
        return "unavailable", tools
    if status == 413 or (bad and _is_too_long(message, code)):  # noqa: PLR2004
        return "too_long", ""
    if code in _NO_SOUND_WORDS:
        return "nonsense", tools
    if status in {401, 403} or code == "model_not_found" or (bad and _NO_MODEL.search(message)):
        return "unavailable", ""
    return "refused", tools


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return the seconds that `Retry-After` (RFC 9110, section 10.2.3) or `retry-after-ms` asks for, or None."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    except (ValueError, OverflowError):  # a year of twenty figures is no date either
        return None
    return max((date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds(), 0.0)


def error_of(content: bytes, hide: Hide = str) -> tuple[str, str | None, str | None]:
    """Return (message, parameter, code) of an error body in any of the shapes in use."""
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return quote(content, hide=hide), None, None
    found = _told(found) or found
    if not isinstance(found, dict):
        return quote(found if isinstance(found, str) else content, hide=hide), None, None
    message = found.get("message") or found.get("detail")
    details = found.get("metadata")
    if isinstance(message, str) and isinstance(details, dict) and isinstance(details.get("raw"), str):
        message = f"{message}: {details['raw']}"  # in the words of whom the endpoint asked
    param, code = found.get("param"), found.get("code")
    if not isinstance(code, str):
        code = found.get("type")
    return (
        quote(message if isinstance(message, str) else content, hide=hide),
        param if isinstance(param, str) else None,
        code if isinstance(code, str) else None,
    )


def quote(text: str | bytes, most: int = 200, hide: Hide = str) -> str:
    """Return the beginning of foreign text, with what a terminal would obey replaced."""
    text = hide(text.decode(errors="replace") if isinstance(text, bytes) else text)  # before a cut could halve it
    start = text[: 4 * most]
    shown = " ".join("".join(char if char.isprintable() else " " for char in start).split())
    return shown[:most] + ("…" if len(shown) > most or len(text) > 4 * most else "")


def _pattern(name: str) -> re.Pattern[str]:
    return _ALIASES.get(name) or re.compile(rf"\b{name}\b")


def _is_too_long(message: str, code: str | None) -> bool:
    return code in {"context_length_exceeded", "exceed_context_size_error"} or bool(_TOO_LONG.search(message))


def _nonsense(what: str, content: bytes, hide: Hide) -> TryFailed:
    return TryFailed("nonsense", f"the answer is {what}: {quote(content, hide=hide)!r}", unproven=True)


def _told(answer: object) -> object:
    """Return what an answer holds as its error, an object or a text, also in a list or in its choice; else None."""
    first = answer[0] if isinstance(answer, list) and answer else answer
    if not isinstance(first, dict):
        return None
    return first.get("error") or (_first_choice(first) or {}).get("error")


def _first_choice(answer: object) -> dict[str, object] | None:
    choices = answer.get("choices") if isinstance(answer, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else None


def _text(content: object) -> str | None:
    """Return a message's text; some endpoints send it in parts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else None


def _calls(found: object) -> tuple[CallRequest, ...] | None:
    """Return the tool calls with ids that are unique; None where they have no shape that we know."""
    if found is None:
        return ()
    if not isinstance(found, list):
        return None
    calls: list[CallRequest] = []
    used: set[str] = set()
    for number, item in enumerate(found, 1):
        function = item.get("function") if isinstance(item, dict) else None
        if not isinstance(function, dict):
            return None
        arguments = function.get("arguments")
        identity = item.get("id")
        if not isinstance(identity, str) or not identity or identity in used:
            identity = _free_id(number, used, found)
        used.add(identity)
        calls.append(
            CallRequest(
                id=identity,
                name=str(function.get("name") or ""),
                arguments=arguments if isinstance(arguments, str) else orjson.dumps(arguments or {}).decode(),
            )
        )
    return tuple(calls)


def _free_id(number: int, used: AbstractSet[str], found: Sequence[object]) -> str:
    taken = used | {str(item.get("id")) for item in found if isinstance(item, dict)}
    identity = f"call_{number}"
    while identity in taken:
        identity += "_"
    return identity


def _size(text: object) -> int:
    """Return the bytes of a text; what is none has none."""
    return len(text.encode(errors="replace")) if isinstance(text, str) else 0


def _usage(reported: object, sent_bytes: int, answer_bytes: int, max_tokens: int) -> Usage:
    """Return the usage as reported; what cannot be believed is estimated from the text, four bytes a token.

    Some endpoints bill thoughts that they do not count among `completion_tokens`: the total, or they themselves, tell.
    """
    figures = reported if isinstance(reported, dict) else {}
    details = figures.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    sent, guess_sent = _figure(figures.get("prompt_tokens"), sent_bytes, sent_bytes)
    written, guess_written = _figure(figures.get("completion_tokens"), answer_bytes, max(max_tokens, answer_bytes))
    written += _thought_beside(figures, sent, written)
    if type(cached) is not int or not 0 <= cached <= sent:
        cached = 0
    return Usage(input=sent, output=written, cached=cached, estimated=guess_sent or guess_written)


def _thought_beside(figures: Mapping[str, object], sent: int, written: int) -> int:
    """Return the output tokens that `completion_tokens` leaves out."""
    total = figures.get("total_tokens")
    if type(total) is int and sent + written <= total <= ABSURD_TOKENS:
        return total - sent - written
    details = figures.get("completion_tokens_details")
    thought = details.get("reasoning_tokens") if isinstance(details, dict) else None
    return thought if type(thought) is int and written < thought <= ABSURD_TOKENS else 0


def _figure(reported: object, size: int, bound: int) -> tuple[int, bool]:
    """Return (tokens, whether they are estimated) for a text of `size` bytes.

    Far too few are replaced by the estimate, far too many by `bound`, the most that the call can have used.
    """
    if type(reported) is not int or reported < 0:
        too_many = isinstance(reported, int | float) and reported > ABSURD_TOKENS
        return (bound if too_many else -(-size // 4)), True
    if reported > ABSURD_TOKENS:
        return bound, True
    if reported * _MOST_BYTES_A_TOKEN < size:
        return -(-size // 4), True
    return reported, False
