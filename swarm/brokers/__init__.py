"""Brokers: what they are told, one for a try, and what one does.

broker_config.py a configuration and an access list for mosquitto · quick_broker.py mosquitto for this machine alone
bus_doctor.py    a bus looked at, with a remedy for each thing that is wrong
"""
