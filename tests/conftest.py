"""What holds for all tests: no deadlines for single examples (machines are busy), and examples that repeat."""

from hypothesis import settings

settings.register_profile("swarm", deadline=None, print_blob=True)
settings.load_profile("swarm")
