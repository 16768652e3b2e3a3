"""A whole swarm in one process under one seed: hubs, agents, broker, disk, models and what lies outside, with faults.

faults.py     what goes wrong, and how often
world.py      time, chance, broker, disk and what lies outside
processes.py  hubs and agents that can be killed, frozen, cut off and started again
weather.py    what strikes whom, and when · run.py all of them put together, from a run's first event to its end
outside.py    the model endpoint and the outside world, which count what is asked of them and done to them
watch.py      promises that are looked at as things happen · promises.py those that the log shows afterwards
drawn.py      a scenario and roles drawn from a seed
simulate.py   one run under one seed, or a storm of them · own.py the same with a scenario of one's own
"""
