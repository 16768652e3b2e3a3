"""What is done sparingly for the same one, whoever may bring much of it about: words said, changes taken in."""

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


@dataclass(slots=True)
class Budget:
    """Tells whether more may be done for one: `at_once` times, and then `per_s` times a second.

    `most`: how many it keeps in mind.
    """

    at_once: int
    per_s: float
    most: int = 4_096
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)

    def has(self, whom: str, now: float) -> bool:
        """Tell whether once more is left."""
        return self._at(whom, now) >= 1

    def spend(self, whom: str, now: float) -> None:
        """Note that it was done once more."""
        keep(self._left, whom, (self._at(whom, now) - 1, now), self.most)

    def _at(self, whom: str, now: float) -> float:
        left, then = self._left.get(whom, (self.at_once, now))
        return min(self.at_once, left + (now - then) * self.per_s)
