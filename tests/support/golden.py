"""Writes the golden logs anew: `python -m tests.support.golden`. Only for versions that were never released."""

import hashlib
import json
from pathlib import Path
from typing import Any

import orjson

from bus.codec import decode, encode
from bus.events import EVENTS, Fact

GOLDEN = Path(__file__).parent.parent / "golden"


def fingerprint(kind: type[Fact]) -> str:
    """Return a hash of what an event's JSON may be; prose (docstrings, titles) does not count."""

    def bare(schema: Any) -> Any:
        if isinstance(schema, dict):
            prose = {name for name in ("title", "description") if isinstance(schema.get(name), str)}
            return {name: bare(value) for name, value in schema.items() if name not in prose}
        return [bare(each) for each in schema] if isinstance(schema, list) else schema

    text = json.dumps(bare(kind.model_json_schema()), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def main() -> None:
    """Decode and encode each line, dropping what events no longer have, and take the fingerprints anew."""
    log = GOLDEN / "v1.jsonl"
    lines = []
    for line in log.read_bytes().splitlines():
        attributes = orjson.loads(line)
        kind = EVENTS[attributes["type"].split(".")[1]]
        attributes["data"] = {name: value for name, value in attributes["data"].items() if name in kind.model_fields}
        lines.append(encode(decode(orjson.dumps(attributes))))
    log.write_bytes(b"\n".join(lines) + b"\n")
    prints = {f"{name}.v{kind.version}": fingerprint(kind) for name, kind in EVENTS.items()}
    (GOLDEN / "schemas.json").write_text(json.dumps(prints, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
