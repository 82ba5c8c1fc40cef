"""Korean Wikipedia as people have it on disk: WikiExtractor's `<doc>` files, or title line + body lines.

file -> lines -> Article(title, body) -> wiki_markup.clean -> Document(title + body)

Each file is looked at by itself: its first line says which of the two layouts it has.
"""

import html
import re
import unicodedata
from collections.abc import Iterator
from typing import Literal, NamedTuple

from pydantic import Field

from reforge.corpora.corpus import Document
from reforge.corpora.files import FileCorpus
from reforge.corpora.reader import Reader
from reforge.corpora.tally import Tally
from reforge.corpora.wiki_markup import clean

_DOC = re.compile(r"<doc\b[^>]*?(?:\btitle=\"(?P<title>[^\"]*)\"[^>]*)?>")


class Article(NamedTuple):
    """A title and the lines under it, as the file has them."""

    title: str
    body: list[str]


class Kowiki(FileCorpus):
    """Articles with their title as first line and one paragraph a line, without the residue of templates.

    keep_headings: keep the section headings that WikiExtractor leaves as short lines with a full stop (`개요.`)
    min_chars: articles whose body is shorter are dropped; redirects and other titles without a body always are
    """

    kind: Literal["kowiki"] = "kowiki"
    keep_headings: bool = False
    min_chars: int = Field(default=20, ge=1)

    def read_file(self, reader: Reader) -> Iterator[Document]:
        tally = reader.tally
        for article in read_articles(reader.lines(), tally):
            text = self._text(article, tally)
            if text is not None:
                tally.keep(text)
                yield Document(f"{reader.name}: {article.title}", text)

    def _text(self, article: Article, tally: Tally) -> str | None:
        if not any(line and not line.isspace() for line in article.body):
            tally.drop("title only")
            return None
        body = clean("\n".join(article.body), tally, keep_headings=self.keep_headings)
        if not body:
            tally.drop("nothing but headings and markup")
            return None
        if len(body) < self.min_chars:
            tally.drop(f"body shorter than {self.min_chars} characters")
            return None
        return f"{article.title}\n{body}"


def read_articles(lines: Iterator[str], tally: Tally) -> Iterator[Article]:
    """The articles of one file in either layout."""
    for line in lines:
        if line and not line.isspace():
            layout = _wikiextractor_articles if _DOC.match(line) else _title_body_articles
            yield from layout(line, lines, tally)


def _wikiextractor_articles(first: str, lines: Iterator[str], tally: Tally) -> Iterator[Article]:
    title, body = _open_doc(first), list[str]()
    is_open = True
    for line in lines:
        if line.startswith("<doc ") and _DOC.match(line):
            if is_open:
                tally.fix("<doc> without its end")
                yield _without_title_line(title, body)
            title, body, is_open = _open_doc(line), [], True
        elif line.endswith("</doc>") and is_open:
            yield _without_title_line(title, [*body, line.removesuffix("</doc>")])
            is_open = False
        elif is_open:
            body.append(line)
        elif line.strip():
            tally.fix("line outside <doc> left out")
    if is_open:
        tally.fix("<doc> without its end")
        yield _without_title_line(title, body)


def _open_doc(line: str) -> str:
    match = _DOC.match(line)
    return _clean_title(match["title"] or "") if match else ""


def _without_title_line(title: str, body: list[str]) -> Article:
    start = next((index for index, line in enumerate(body) if line.strip()), len(body))
    first = _clean_title(body[start]) if start < len(body) else ""
    return Article(title or first, body[start + 1 :] if not title or first == title else body[start:])


def _title_body_articles(first: str, lines: Iterator[str], tally: Tally) -> Iterator[Article]:
    title, body = _clean_title(first), list[str]()
    for line in lines:
        if not line or line.isspace():
            if title:
                yield Article(title, body)
            title, body = "", []
        elif title:
            body.append(line)
        else:
            title = _clean_title(line)
    if title:
        yield Article(title, body)


def _clean_title(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", html.unescape(text)).split())
