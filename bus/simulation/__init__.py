"""A network, its broker, a disk and the time, all in one process and all under one seed.

loop.py    an event loop whose time is not the world's: it stands while anything runs, then jumps to what is next
broker.py  a broker as brokers are: acks that mean little, queues that drop silently, sessions that end
disk.py    an event log whose appends take time, fail before or after they are durable, and fence by epoch

The client's side of the broker is among `bus/transports/`; what runs a swarm on all this is `swarm/simulation/`.
"""
