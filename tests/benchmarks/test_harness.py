"""The harness with measures whose values are known."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.harness import ROUNDS, Absolute, Benchmark, Row, run, table


@pytest.fixture(autouse=True)
def _heap_of_all_tests_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full collection of what a whole test run holds takes a second, and these tests would make two hundred."""
    monkeypatch.setattr("gc.collect", lambda: 0)


class Scripted:
    """A measure that returns given values in turn, and writes its name into a common record."""

    def __init__(self, name: str, values: list[float], record: list[str]) -> None:
        self.name, self.values, self.record = name, iter(values), record

    def __call__(self) -> float:
        self.record.append(self.name)
        return next(self.values)


def test_ours_and_the_reference_take_turns_and_the_first_round_does_not_count() -> None:
    record: list[str] = []
    ours = Scripted("o", [9.0, *[2.0] * 6, 4.0], record)
    reference = Scripted("r", [1.0, *[1.0] * 6, 1.0], record)
    row = run(Benchmark("b", ours, reference, 0.5, operations=1000))
    assert "".join(record) == "orro" * 4
    assert row == Row("b", "2 ms", "1 ms", "0.50x", "0.25-0.50", ">= 0.50x", met=True)


def test_what_counts_is_the_median_of_the_ratios() -> None:
    slow_machine = [float(n) for n in range(1, 9)]
    row = run(Benchmark("b", Scripted("o", slow_machine, []), Scripted("r", [n * 0.4 for n in slow_machine], []), 0.5))
    assert (row.ratio, row.spread, row.met) == ("0.40x", "0.40-0.40", False)


def test_measures_may_be_coroutines() -> None:
    async def second() -> float:
        return 1.0

    assert run(Benchmark("b", second, second, 1.0)).ratio == "1.00x"
    assert run(Absolute("a", second, "s", 1.0)).met


@pytest.mark.parametrize(("at_least", "met"), [(False, False), (True, True)])
def test_a_value_is_held_against_its_bound(at_least: bool, met: bool) -> None:  # noqa: FBT001
    row = run(Absolute("a", Scripted("m", [99.0, *[300.0] * ROUNDS], []), "bytes", 200, at_least=at_least))
    assert (row.ours, row.spread, row.reference, row.met) == ("300 bytes", "300-300", "", met)
    assert row.target == (">= 200 bytes" if at_least else "<= 200 bytes")


def test_too_few_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="says little"):
        run(Absolute("a", lambda: 1.0, "s", 1.0), rounds=ROUNDS - 1)


def test_the_table_has_a_line_for_each_row() -> None:
    text = table([Row("slow one", "2 ms", "1 ms", "0.50x", "0.4-0.6", ">= 1.00x", met=False)])
    header, rule, line = text.splitlines()
    assert re.split(r"  +", header) == ["what", "ours", "reference", "ratio", "spread", "target", "met?"]
    assert set(rule) == {"-", " "}
    assert re.split(r"  +", line) == ["slow one", "2 ms", "1 ms", "0.50x", "0.4-0.6", ">= 1.00x", "NO"]


def test_an_unknown_benchmark_names_the_known_ones() -> None:
    command = [sys.executable, "-m", "benchmarks", "bsu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert done.returncode == 2
    assert "no benchmark bsu (known: bus" in done.stderr
