"""Hubs: any number of runs in one process, for those who submit them over a bus.

hub.py          which runs are with it: begun, taken over, let go · running.py one of them carried on
                · liveness.py which hubs are alive · own_agents.py its planner and critic
serving.py      puts a hub together · namesake.py the only one of its name
switchboard.py  what agents say, sorted by run · desk.py where clients ask: client_files.py their files
unpacking.py    a submission as this hub runs it · hub_config.py what it brings and allows
"""
