"""The rules of a run: pure functions over its events.

state.py   what a log adds up to · apply.py what each event does to it, by part: leases.py, plans.py, subtasks.py,
           results.py, doubts.py · limits.py what is reserved and spent · tree.py the run's files
plan.py    a plan as a graph
meetings.py where results changed one file · text_merge.py how such changes are brought together
admit.py   what may be recorded · decide.py what follows · request.py what a role is told
marks.py   a state as bytes and back
"""
