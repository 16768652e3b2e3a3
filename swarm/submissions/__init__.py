"""Runs submitted over a bus: from the file where it lies to the hub that runs it, and back.

submission.py   what is said · packing.py a scenario packed into one
                submission_bounds.py how much of one · refusals.py what none may hold
caps.py         where a wish and a cap meet
client.py       who asks hubs
"""
