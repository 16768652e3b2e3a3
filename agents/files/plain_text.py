"""Bytes to text where nothing says which encoding they are in. Pure."""

import codecs
import re

_CONTROLS = re.compile(rb"[\1-\x08\x0e-\x1a\x1c-\x1f]")
_CONTROLS_IN_TEXT = 0.01
"""Which share of bytes they may be in a text that is not UTF-8; in what is compressed they are a tenth."""
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode(data: bytes) -> tuple[str, str]:
    """Return a text, and what its reader should know of how it was read; nothing where it is UTF-8.

    Raises `ValueError` where the bytes are no text.
    """
    if data.startswith(_UTF_16):
        return data.decode("utf-16", "replace"), "it is UTF-16"
    if b"\0" in data:
        raise ValueError("it is no text")
    try:
        return data.decode(), ""
    except UnicodeDecodeError as error:
        first = error.start
    if len(_CONTROLS.findall(data)) > _CONTROLS_IN_TEXT * len(data):
        raise ValueError("it is no text")
    text = data.decode(errors="replace")
    if any(character > "\x7f" and character != "\ufffd" for character in text):
        return text, f"bytes that are not UTF-8 are shown as \ufffd, the first is byte {first}"
    return data.decode("cp1252", "replace"), "it is not UTF-8, and was read as Windows-1252"
