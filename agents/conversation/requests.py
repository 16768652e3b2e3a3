"""The whole request of each model call, put together again from what the log has of it. Pure.

`ModelAsked` holds only the messages that are new since the ask it follows, so that the log stays linear. Here the rest
is added: the messages before, and the answer in the form in which the dialogue sends it back.
"""

from dataclasses import dataclass

from agents.conversation.json_actions import mode_of
from agents.conversation.messages import Mode, reply_message, whole
from bus.events import Fact, Message, ModelAnswered, ModelAsked, Path

_Key = tuple[str, int, Path]
"""(request id, attempt, path): the key of an effect."""


@dataclass(frozen=True, slots=True)
class WholeRequest:
    """One try of a model call, with all the messages that the model was sent."""

    asked: ModelAsked
    messages: tuple[Message, ...]
    mode: Mode
    """How tools were called in its conversation; `native` where it had none."""


class Requests:
    """Puts requests together as their events come, of one attempt or of a whole log; in the order of the log."""

    def __init__(self) -> None:
        self._asked: dict[_Key, WholeRequest] = {}
        self._replies: dict[_Key, Message] = {}

    def take(self, event: Fact, request: str = "") -> WholeRequest | None:
        """Take the next event; return the whole request if it is a `ModelAsked`, None for all else.

        `request`: the id of the request that the effect belongs to, where events of several come. Raises `ValueError`
        for an ask that continues what did not come, as a log that was cut or edited may have it.
        """
        if isinstance(event, ModelAsked):
            made = self._made(event, request)
            self._asked[request, event.attempt, event.path] = made
            return made
        if isinstance(event, ModelAnswered) and (before := self._asked.get((request, event.attempt, event.path))):
            self._replies[request, event.attempt, event.path] = reply_message(
                event.text, event.calls, mode=before.mode, at=len(before.messages)
            )
        return None

    def _made(self, asked: ModelAsked, request: str) -> WholeRequest:
        if asked.follows is None:
            messages = whole((), None, asked.keeps, asked.messages)
        else:
            before = (request, asked.attempt, asked.follows)
            if before not in self._replies:
                raise ValueError(
                    f"the ask {_name(request, asked)} follows {_dotted(asked.follows)}, whose answer is not in the log"
                )
            messages = whole(self._asked[before].messages, self._replies[before], asked.keeps, asked.messages)
        return WholeRequest(asked, messages, mode_of(messages))


def _name(request: str, asked: ModelAsked) -> str:
    return f"{request or 'request'}, attempt {asked.attempt}, effect {_dotted(asked.path)}"


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))
