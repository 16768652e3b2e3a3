"""The tool calls of one reply: which are run, together or alone, and what becomes of the others. Pure.

They are run in their order: reads that follow one another together, each call that changes something alone, and only if
all before it went well. Each call is answered exactly once.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from agents.conversation.fitting import cut_middle
from agents.conversation.json_actions import result, unknown_tool
from agents.conversation.messages import MAX_CALLS, Mode, arguments_of, as_data, call_id
from agents.conversation.structured import dumps, read_object
from bus.events import CallRequest, Message

_WRITTEN = re.compile(r"\s*(<tool_call>|<\|tool_calls?[_|>]|\[TOOL_CALLS\]|<function=|<\|python_tag\|>)")
"""How calls begin that an endpoint should have taken out of the text."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool that is granted; whether its arguments fit is the tool's to say."""

    id: str
    name: str
    arguments: dict[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call gave. `wrong_arguments`: an error, because they do not fit the tool; nothing was run."""

    call_id: str
    output: str
    error: bool = False
    wrong_arguments: bool = False
    whole: str | None = None
    """The file that holds all of `output`, where the model can read one."""


@dataclass(slots=True)
class Slot:
    """One call and what becomes of it. `call`: None where it cannot be run."""

    id: str
    name: str
    call: Call | None = None
    outcome: Outcome | None = None
    ran: bool = False
    note: str = ""
    """What we tell the model beside the outcome."""

    def settle(self, why: str, *, error: bool = True, fault: bool = False) -> None:
        """Answer the call without running it; a `fault` is the model's."""
        self.outcome = Outcome(self.id, why, error=error, wrong_arguments=fault)


class Calls:
    """The calls of one reply, in its order."""

    def __init__(self, slots: Sequence[Slot], reads: Collection[str]) -> None:
        self.slots = slots
        self._reads = reads
        self._at = 0
        seen: set[str] = set()
        for slot in slots:
            if slot.call is None:
                continue
            same = dumps([slot.name, slot.call.arguments], sort=True)
            if same in seen:
                slot.settle("not run: the same call stands above, with its result.", error=False)
            elif slot.name not in reads:
                seen.clear()  # after a change the same call may well give something else
            seen.add(same)

    def next(self) -> tuple[Call, ...]:
        """Return the calls to run next, all at once; empty when all are answered."""
        batch: list[Call] = []
        for slot in self.slots[self._at :]:
            if slot.call is not None and slot.outcome is None:
                if slot.name in self._reads:
                    batch.append(slot.call)
                elif batch:
                    break
                elif any(one.outcome and one.outcome.error for one in self.slots[: self._at]):
                    slot.settle("not run, because a call before it went wrong. Call it again if it still makes sense.")
                else:
                    self._at += 1
                    return (slot.call,)
            self._at += 1
        return tuple(batch)

    def take(self, outcomes: Sequence[Outcome]) -> None:
        """Take the outcomes of the calls that `next` gave."""
        by_id = {outcome.call_id: outcome for outcome in outcomes}
        for slot in self.slots:
            if slot.id in by_id:
                slot.outcome = by_id[slot.id]
                slot.ran = not slot.outcome.wrong_arguments

    @property
    def fault(self) -> str | None:
        """The last call's fault that is the model's, where no call of the reply could be run; None otherwise."""
        if any(slot.ran for slot in self.slots):
            return None
        faults = [slot.outcome.output for slot in self.slots if slot.outcome and slot.outcome.wrong_arguments]
        return faults[-1] if faults else None

    @property
    def ran(self) -> list[tuple[Slot, Call, Outcome]]:
        """The calls that were run, with what they gave."""
        return [(slot, slot.call, slot.outcome) for slot in self.slots if slot.ran and slot.call and slot.outcome]


def is_written_call(text: str, tools: Sequence[str]) -> bool:
    """Tell whether a reply is a tool call written as text; it is not run, since a model may also quote one."""
    if not tools:
        return False
    if _WRITTEN.match(text) or text.rstrip().endswith("</tool_call>"):
        return True
    if not text.lstrip().startswith(("{", "```")):
        return False
    try:
        value = read_object(text)
    except ValueError:
        return False
    return value.get("name") in tools and value.keys() - {"name", "id", "type"} in ({"arguments"}, {"parameters"})


def read_calls(requests: Sequence[CallRequest], at: int, tools: Sequence[str]) -> list[Slot]:
    """Read calls as the model wrote them; those that cannot be run are answered with what is wrong."""
    slots = [_slot(call_id(at, number), request, tools) for number, request in enumerate(requests[:MAX_CALLS])]
    if len(requests) > MAX_CALLS:
        slots[-1].note += f" Of the {len(requests)} calls of this reply only {MAX_CALLS} were looked at."
    return slots


def result_messages(slot: Slot, mode: Mode, cap: int) -> tuple[Message, Message]:
    """Make the message of a call's result (`cap`: bytes of output in it), and the one that may stand for it later."""
    outcome = slot.outcome or Outcome(slot.id, "")
    text = cut_middle(as_data(outcome.output), cap, outcome.whole) or "(no output)"
    note = f"\n\n[{slot.note.strip()}]" if slot.note else ""
    arguments = cut_middle(dumps(slot.call.arguments), 160) if slot.call else ""
    gone = f"[What {slot.name}({arguments}) gave, {len(outcome.output):,} characters, was left out to save room.]"
    if mode == "json":
        content = result(slot.name, text, slot.note.strip(), error=outcome.error)
        return {"role": "user", "content": content}, {"role": "user", "content": gone}
    content = f"{'Error: ' if outcome.error else ''}{text}{note}"
    base: Message = {"role": "tool", "tool_call_id": slot.id}
    return {**base, "content": content}, {**base, "content": gone}


def _slot(own_id: str, request: CallRequest, tools: Sequence[str]) -> Slot:
    slot = Slot(own_id, as_data(request.name)[:64])
    if request.name not in tools:
        slot.settle(unknown_tool(request.name, tools), fault=True)
        return slot
    try:
        slot.call = Call(own_id, request.name, arguments_of(request.arguments))
    except ValueError as error:
        slot.settle(f"{request.name} was not run, its arguments cannot be read: {error}", fault=True)
    return slot
