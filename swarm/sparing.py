"""Words that are said sparingly: to the same one at most once in a while, whoever may bring many of them about."""

from dataclasses import dataclass, field

from swarm.latest import keep


@dataclass(slots=True)
class Sparing:
    """Tells whether something may be said.

    `every_s`: how far apart two words to one are; `most`: how many it keeps in mind.
    """

    every_s: float
    most: int = 1_024
    _said: dict[str, float] = field(default_factory=dict)

    def may(self, whom: str, now: float) -> bool:
        """Tell whether this one may be told something now, which counts as said then."""
        if now - self._said.get(whom, -self.every_s) < self.every_s:
            return False
        keep(self._said, whom, now, self.most)
        return True
