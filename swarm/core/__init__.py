"""The rules of a run: pure functions over its events.

state.py    what a log adds up to · apply.py what each event does to it
admit.py    what may be recorded · decide.py what follows
plan.py     plans that can work · limits.py tokens and money, reserved and spent · tree.py the run's files
request.py  what a role is told
"""
