"""Runs submitted over a bus: from the file where it lies to the hub that runs it, and back.

submission.py   a scenario packed and unpacked · submission_bounds.py how much of one · refusals.py what none may hold
caps.py         where a wish and a cap meet
client.py       who asks hubs · submitting.py a run from its submitter's side
"""
