"""One file a question, each against its bare reference in the same run: `python -m benchmarks [NAME …]`.

A benchmark file holds `BENCHMARKS`, a sequence of `harness.Benchmark` and `harness.Absolute`.
"""
