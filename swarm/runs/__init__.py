"""Runs that are there: found, looked at, handed over. Nothing here runs a role.

finding.py      which one is meant · ownership.py whose it is · named_code.py the code that its log names
folding.py      its log folded into a state · marks.py so that long ones are quick · clock.py its own clock
outcome.py      what it came to · handover.py its files · comparison.py two side by side
importing.py    one from elsewhere
"""
