"""Runs ours and the reference by turns and tells how they compare.

A time alone says more of the machine, and of what else it does just now, than of the code. So each round runs both,
the second right after the first and the other way round in the next round, and what counts is the median of the rounds'
ratios.
"""

import asyncio
import gc
import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

ROUNDS = 7

Measure = Callable[[], float] | Callable[[], Awaitable[float]]
"""Does the work once and returns how long it took, in seconds (or, for `Absolute`, its value in its own unit)."""


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Ours against a reference that does the same, each returning seconds. `operations`: how many one run does."""

    name: str
    ours: Measure
    reference: Measure
    target: float
    """The least ratio wanted: the reference's time / our time."""
    operations: int = 1


@dataclass(frozen=True, slots=True)
class Absolute:
    """A value with a bound, where there is nothing to compare with: bytes an event, MiB of memory."""

    name: str
    measure: Measure
    unit: str
    bound: float
    at_least: bool = False
    """The bound is the least that is wanted, not the most."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    ours: str
    reference: str
    ratio: str
    spread: str
    target: str
    met: bool


def run(benchmark: Benchmark | Absolute, rounds: int = ROUNDS) -> Row:
    """Run one benchmark, after one round to warm up that does not count."""
    if rounds < ROUNDS:
        raise ValueError(f"a median of {rounds} rounds says little; at least {ROUNDS} are wanted")
    return _compare(benchmark, rounds) if isinstance(benchmark, Benchmark) else _value(benchmark, rounds)


def table(rows: Iterable[Row]) -> str:
    """Return the rows as text in columns."""
    lines = [["what", "ours", "reference", "ratio", "spread", "target", "met?"]]
    lines += [
        [row.name, row.ours, row.reference, row.ratio, row.spread, row.target, "yes" if row.met else "NO"]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _compare(benchmark: Benchmark, rounds: int) -> Row:
    pairs = [_round(benchmark, ours_first=number % 2 == 0) for number in range(rounds + 1)][1:]
    ratios = [reference / ours for ours, reference in pairs]
    ours, reference = (median(times) / benchmark.operations for times in zip(*pairs, strict=True))
    return Row(
        benchmark.name,
        _duration(ours),
        _duration(reference),
        f"{median(ratios):.2f}x",
        f"{min(ratios):.2f}-{max(ratios):.2f}",
        f">= {benchmark.target:.2f}x",
        met=median(ratios) >= benchmark.target,
    )


def _round(benchmark: Benchmark, *, ours_first: bool) -> tuple[float, float]:
    if ours_first:
        ours = _measure(benchmark.ours)
        return ours, _measure(benchmark.reference)
    reference = _measure(benchmark.reference)
    return _measure(benchmark.ours), reference


def _value(absolute: Absolute, rounds: int) -> Row:
    values = [_measure(absolute.measure) for _ in range(rounds + 1)][1:]
    value, sign = median(values), ">=" if absolute.at_least else "<="
    return Row(
        absolute.name,
        f"{value:,.4g} {absolute.unit}",
        "",
        "",
        _span(values),
        f"{sign} {absolute.bound:,.4g} {absolute.unit}",
        met=value >= absolute.bound if absolute.at_least else value <= absolute.bound,
    )


def _span(values: Sequence[float]) -> str:
    return f"{min(values):,.4g}-{max(values):,.4g}"


def _measure(measure: Measure) -> float:
    """Measure once, on a clean heap: garbage of the one before is not this one's."""
    gc.collect()
    result = measure()
    if not inspect.isawaitable(result):
        return result

    async def wait() -> float:
        return await result

    return asyncio.run(wait())


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"
