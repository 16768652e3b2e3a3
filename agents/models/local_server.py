"""The child process of a local model: llama.cpp's own HTTP server, by `python -m agents.models.local_server FILE`.

It reads its key as the first line of standard input (an argument or a variable could be read by others), prints
`ready URL` once the model is loaded, and ends when its standard input ends: so with its parent, however that ends.
"""

import argparse
import os
import sys
import threading

SLOTS = 2
"""Requests decoded together."""

CONTEXT = 8192
"""Tokens of one request with its answer."""


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="the GGUF file")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    asked = parser.parse_args()
    key = sys.stdin.readline().strip()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Workers that sleep while they wait: spinning ones nearly stop as soon as another program wants the processor.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    import xllamacpp  # type: ignore[import-not-found, unused-ignore]  # noqa: PLC0415  # after the environment is set: OpenMP reads it on loading

    wanted = xllamacpp.CommonParams()
    wanted.model.path = asked.file
    wanted.hostnames = ["127.0.0.1"]
    wanted.port = 0
    wanted.api_keys = [key]
    wanted.n_parallel = SLOTS
    wanted.n_ctx = CONTEXT * SLOTS  # llama.cpp divides it between the slots
    wanted.kv_unified = False
    wanted.cpuparams.n_threads = wanted.cpuparams_batch.n_threads = asked.threads
    wanted.n_threads_http = SLOTS + 2
    wanted.use_jinja = True  # with the template in the weights
    wanted.cache_prompt = True
    wanted.cache_ram_mib = 512
    wanted.offline = True
    wanted.ui = False
    wanted.verbosity = 0
    server = xllamacpp.Server(wanted)  # returns once the model is loaded
    print(f"ready {server.listening_address}", flush=True)  # noqa: T201  # this line is the protocol
    threading.Event().wait()


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)  # native threads of the server would hold a normal exit up


if __name__ == "__main__":
    main()
