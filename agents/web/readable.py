"""Makes readable text of a page: HTML to text, bytes to characters, characters to ones that are safe to show.

Nothing here is trusted to be well-formed; all of it is bounded by the size of the page.
"""

import codecs
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from html.parser import HTMLParser

from agents.files import plain_text

_CHARSETS = re.compile(r"utf-?_?(8|16|32)([-_].*)?|ascii|latin.*|(iso|cp|mac|koi8|gb|big5|euc|shift|windows).*")
_META = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)
_KEPT = frozenset("\n\t\u200c\u200d")  # Persian and Indic scripts and emoji need the joiners
_DROPPED = {ord(character): None for character in "\xad\u200b\u2060\ufeff"}  # without width and without meaning here
_LINES = {ord(character): "\n" for character in "\x0b\x0c\x85\u2028\u2029"}


def decode(body: bytes, charset: str | None) -> str:
    """Return text; what says the charset is believed only where it names one of text, and never raises."""
    if body.startswith(codecs.BOM_UTF8):
        return body.decode("utf-8-sig", "replace")
    if charset is None and (found := _META.search(body[:4096])):
        charset = found[1].decode("ascii", "replace")
    try:
        if charset is None:
            return plain_text.decode(body)[0]
        # Not every codec of Python's is one for text: some are slow on purpose-made input, some execute escapes.
        name = codecs.lookup(charset).name
        return body.decode(name if _CHARSETS.fullmatch(name) else "utf-8", "replace")
    except (LookupError, ValueError):
        return body.decode("utf-8", "replace")


def visible(text: str) -> str:
    """Replace what a reader does not see but a terminal or a model obeys: control, escape, bidi, hidden tags.

    Line ends of all kinds become a newline.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_LINES).translate(_DROPPED)
    return "".join(
        character if character in _KEPT or unicodedata.category(character) not in {"Cc", "Cf", "Cs"} else "\ufffd"
        for character in text
    )


@dataclass(frozen=True, slots=True)
class Outline:
    """What the tags of a page tell: its title, all its text, and its links as (text, address as written)."""

    title: str
    text: str
    links: tuple[tuple[str, str], ...]


def outline(html: str) -> Outline:
    """Strip the tags of a page.

    What is here takes time as the page is long. Of `html.parser` that is not known: ask another process.
    """
    parser = _Stripper()
    try:
        # Never `close()`: on tags without end it reads the rest again for each of them. The last tag flushes the text.
        parser.feed(html + "<br>")
    except AssertionError:  # html.parser's answer to declarations it cannot make sense of
        parser.pieces.append("\n[the rest of this page is malformed]")
    return Outline(_tidy(parser.title).replace("\n", " "), _tidy("".join(parser.pieces)), tuple(parser.links))


def outlined(html: str) -> tuple[str, str, list[tuple[str, str]]]:
    """Return an outline as values of JSON's types, for another process."""
    found = outline(html)
    return found.title, found.text, [*found.links]


def main_text(html: str) -> str | None:
    """Return the main text of a page without its menus and footers, as Markdown; None where none is found.

    Slow, and of pages made for it without end: ask another process. Raises `ImportError` without the extra `web`.
    """
    import trafilatura  # noqa: PLC0415 # an optional extra, and slow to load

    return trafilatura.extract(html, output_format="markdown", include_comments=False, favor_recall=True)


_SILENT = frozenset({"script", "style", "noscript", "template", "svg", "iframe", "object"})
_BLOCKS = re.compile(
    "address|article|aside|blockquote|br|dd|div|dl|dt|fieldset|figcaption|figure|footer|form|h[1-6]|header|hr|li|main|nav"
    "|ol|p|pre|section|table|tr|ul"
)


class _Stripper(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self.pieces: list[str] = []
        self.links: list[tuple[str, str]] = []
        self._silent: list[str] = []
        """Those elements that are open, and whose text nobody sees."""
        self._open: Counter[str] = Counter()
        """How many of them there are of each name."""
        self._in_title = False
        self._link: tuple[str, int] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_title = tag == "title" and not self.title and not self._silent
        if tag in _SILENT:
            self._silent.append(tag)
            self._open[tag] += 1
        elif _BLOCKS.fullmatch(tag):
            self.pieces.append("\n- " if tag == "li" else "\n")
        elif tag in {"td", "th"}:
            self.pieces.append(" | ")
        elif tag == "a" and (target := dict(attrs).get("href")):
            self._link = (target, len(self.pieces))

    def handle_endtag(self, tag: str) -> None:
        self._in_title = False
        if self._open[tag]:
            ended = ""
            while ended != tag:
                ended = self._silent.pop()
                self._open[ended] -= 1
        elif _BLOCKS.fullmatch(tag):
            self.pieces.append("\n")
        elif tag == "a" and self._link:
            target, start = self._link
            self.links.append((" ".join("".join(self.pieces[start:]).split()), target))
            self._link = None

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif not self._silent:
            self.pieces.append(data)


def _tidy(text: str) -> str:
    lines = (" ".join(line.split()).removeprefix("| ") for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
