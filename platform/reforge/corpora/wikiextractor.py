"""Articles as dump extractors write them: WikiExtractor's `<doc>` and `--json`, or title line + body lines.

<doc id="5" url=".." title="Title">      {"id": "5", "url": "..", "title": "Title", "text": "Body"}      Title
Title                                                                                                    Body
                                                                                                         Body
Body
</doc>                                                                              (a blank line between articles)
"""

import html
import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from reforge.corpora.reader import Reader
from reforge.corpora.records import json_records, text_of

_DOC = re.compile(r"<doc\b[^>]*?(?:\btitle=\"(?P<title>[^\"]*)\"[^>]*)?>")


class Entry(NamedTuple):
    """An article: a title and the lines under it, as the file has them."""

    title: str
    body: list[str]


def begins_doc(line: str) -> bool:
    """Whether a line opens a `<doc>`."""
    return line.startswith("<doc") and _DOC.match(line) is not None


def doc_entries(reader: Reader) -> Iterator[Entry]:
    """The articles of a file of `<doc>`s."""
    tally = reader.tally
    title, body, is_open = "", list[str](), False
    for line in reader.lines(cut_before=begins_doc):
        opening = _DOC.match(line) if line.startswith("<doc") else None
        if opening:
            if is_open:
                tally.fix("<doc> without its end")
                yield _without_title_line(title, body)
            title, body, is_open = clean_title(opening["title"] or ""), [], True
        elif not is_open:
            if line and not line.isspace():
                tally.fix("line outside <doc> left out")
        elif line.endswith("</doc>"):
            yield _without_title_line(title, [*body, line.removesuffix("</doc>")])
            is_open = False
        else:
            body.append(line)
    if is_open:
        tally.fix("<doc> without its end")
        yield _without_title_line(title, body)


def json_entries(reader: Reader) -> Iterator[Entry]:
    """The articles of a file of JSON lines with `title` and `text`."""
    for record in json_records(reader):
        title, text = text_of(record, "title", reader), text_of(record, "text", reader)
        if title is not None and text is not None:
            yield _without_title_line(clean_title(title), text.split("\n"))


def title_body_entries(reader: Reader) -> Iterator[Entry]:
    """The articles of a file with blank lines between them."""
    title, body = "", list[str]()
    for line in reader.lines(cut_before=_is_blank):
        if not line or line.isspace():
            if title:
                yield Entry(title, body)
            title, body = "", []
        elif title:
            body.append(line)
        else:
            title = clean_title(line)
    if title:
        yield Entry(title, body)


def clean_title(text: str) -> str:
    """A title in Unicode's normal form NFC, without entities and odd space."""
    if "&" in text:
        text = html.unescape(text)
    return " ".join(unicodedata.normalize("NFC", text).split())


def _without_title_line(title: str, body: list[str]) -> Entry:
    start = next((index for index, line in enumerate(body) if line and not line.isspace()), len(body))
    first = body[start] if start < len(body) else ""
    if first != title:
        first = clean_title(first)
    return Entry(title or first, body[start + 1 :] if not title or first == title else body[start:])


def _is_blank(line: str) -> bool:
    return not line or line.isspace()
