"""`python -m benchmarks [NAME …]`: runs the named files (else all but the long ones) and prints one table."""

import argparse
import pkgutil
import sys
from importlib import import_module

import benchmarks
from benchmarks.harness import ROUNDS, run, table

LONG = {"long_log"}
"""What runs for minutes, and so only by name."""


def main() -> int:
    """Return 0 if every target was met, else 1."""
    known = sorted(
        {module.name for module in pkgutil.iter_modules(benchmarks.__path__)}
        - {"__main__", "endpoint", "harness", "swarms", "words"}
    )
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ours against bare references.")
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"which to run: {', '.join(known)} (default: all but {', '.join(LONG)})",
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"how often, {ROUNDS} at least (default: {ROUNDS})")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(known):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))} (known: {', '.join(known)})")
    if arguments.rounds < ROUNDS:
        parser.error(f"--rounds: a median of fewer than {ROUNDS} says little")
    rows = []
    for name in arguments.names or sorted(set(known) - LONG):
        for benchmark in import_module(f"benchmarks.{name}").BENCHMARKS:
            print(f"{name}: {benchmark.name} …", file=sys.stderr)
            rows.append(row := run(benchmark, arguments.rounds))
            print(f"  {row.ratio or row.ours} ({row.spread}; {row.target})", file=sys.stderr, flush=True)
    print(table(rows))
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
