"""Logs of any length: folding does not fall off, and looking at a run costs what is shown, not what was recorded.

The logs of a million events have a plan of forty subtasks, as the short ones have, whose attempts are longer. They are
made once, which takes minutes, and kept in the folder for temporary files. Run it by name:
`python -m benchmarks long_log`.
"""
