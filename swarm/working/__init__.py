"""What a worker stands on: `swarm/worker.py` takes requests in and sends replies out.

held.py         what it holds, and what hubs say of that
assignment.py   one attempt in its hands · attempt.py its role gone through once
work_folder.py  where a process's attempts work
"""
