"""`python -m swarm` is the command `swarm`."""

import sys

from swarm.cli import main

sys.exit(main())
