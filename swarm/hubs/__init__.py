"""Hubs: any number of runs in one process, for those who submit them over a bus.

hub.py          runs carried on, taken over, let go · own_agents.py its planner and critic
serving.py      puts a hub together
switchboard.py  what agents say, sorted by run · desk.py where clients ask
unpacking.py    a submission as this hub runs it · hub_config.py what it brings and allows
"""
