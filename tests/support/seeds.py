"""Seeds of the fault tests: printed, and given again by `FAULT_SEED=…`.

The short forms that `make test` runs have a fixed one; the long ones of `make torture` draw a new one each time.
"""

import os
import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

SHORT = 1


@contextmanager
def seeded(*, short: bool = False) -> Iterator[random.Random]:
    """Give a source of chance; a failure under it says how to repeat it."""
    given = os.environ.get("FAULT_SEED")
    seed = int(given) if given else SHORT if short else secrets.randbelow(1 << 30)
    print(f"seed {seed} (FAULT_SEED={seed} repeats it)")
    try:
        yield random.Random(seed)
    except BaseException as error:
        error.add_note(f"repeat it with FAULT_SEED={seed}")
        raise
