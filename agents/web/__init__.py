"""The web as hostile ground.

addresses.py which may be reached · fetching.py gets pages · readable.py makes text of them
flow.py which addresses may be fetched while a run holds a person's files
"""
