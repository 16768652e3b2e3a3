"""What was last said on topics for all who come later: kept where a broker says it only once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bus.topics import matches
from bus.transport import Message

MOST_WORDS = 65_536
"""Words kept; beyond it the oldest are forgotten, and a later subscription misses them."""


@dataclass(slots=True)
class _Word:
    payload: bytes
    message: Message
    link: int
    """Number of the connection that brought it last."""


class RetainedWords:
    """The retained words that came over a broker's connections. `wanted` tells whether anybody may ask for a topic."""

    def __init__(self, wanted: Callable[[str], bool]) -> None:
        self._wanted = wanted
        self._words: dict[str, _Word] = {}

    def is_known(self, topic: str, payload: bytes, link: int) -> bool:
        """Tell whether a word is the one that was kept already; note that this connection brought it too."""
        word = self._words.get(topic)
        if word is None or word.payload != payload:
            return False
        word.link = link
        return True

    def keep(self, topic: str, payload: bytes, message: Message, link: int) -> None:
        """Keep a topic's last word; an empty payload clears it."""
        self._words.pop(topic, None)
        if payload and self._wanted(topic):
            self._words[topic] = _Word(payload, message, link)
            if len(self._words) > MOST_WORDS:
                del self._words[next(iter(self._words))]

    def matching(self, filters: tuple[str, ...]) -> Iterator[tuple[str, Message]]:
        """Yield the words on topics that match any of the filters."""
        for topic, word in self._words.items():
            if any(matches(pattern, topic) for pattern in filters):
                yield topic, word.message

    def forget_unwanted(self) -> None:
        """Forget what nobody may ask for any more."""
        for topic in [topic for topic in self._words if not self._wanted(topic)]:
            del self._words[topic]

    def take_unseen(self, link: int) -> list[str]:
        """Forget what earlier connections brought and this one did not, and return its topics."""
        gone = [topic for topic, word in self._words.items() if word.link != link]
        for topic in gone:
            del self._words[topic]
        return gone
