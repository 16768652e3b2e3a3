"""Agents that are brought to a bus, on any host: by their own configuration, within their own caps.

attaching.py    puts one together · workshop.py what its roles are made of and work with · worker_caps.py what it lends
"""
