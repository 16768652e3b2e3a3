"""A run's files over the bus, for agents and clients that have no disk in common with whoever keeps them.

service.py   agents ask and bring · shelf.py what is given and taken · uploads.py what is half there
rights.py    who may have what · parcels.py payloads too large to travel
"""
