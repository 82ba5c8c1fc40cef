"""Articles in the wikitext layout of Korpora (kowikitext, namuwikitext), as its files lie on disk.

     = 제목 =

     = = 개요 = =

    본문

Korpora leaves what it downloaded, .zip files, beside the files that it unpacked: they are left out.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from reforge.corpora.articles import Article, Articles
from reforge.corpora.reader import Reader
from reforge.corpora.wikiextractor import clean_title

_TITLE = re.compile(r" = (?!= )(?P<title>.*\S)? *= *")
_SECTION = re.compile(r"(?P<signs>(?:= ){2,6})(?P<title>.*?)(?: ?=){2,6}")


class KorporaWikitext(Articles):
    """Articles in files of this layout."""

    def files(self) -> list[Path]:
        return [file for file in super().files() if file.suffix.lower() != ".zip"]

    def articles(self, reader: Reader) -> Iterator[Article]:
        title: str | None = None
        body: list[str] = []
        for line in reader.lines(cut_before=begins_article):
            found = _title_in(line, is_first=reader.offset == 0)
            if found is not None:
                if title is not None:
                    yield Article(title, "\n".join(body), heading_of)
                title, body = found, []
            elif title is not None:
                body.append(line)
            elif line and not line.isspace():
                reader.tally.fix("line before the first title left out")
        if title is not None:
            yield Article(title, "\n".join(body), heading_of)


def begins_article(line: str) -> bool:
    """Whether a line is an article's title; a file's first title may lack its leading space."""
    return line.startswith(" = ") and _TITLE.fullmatch(line) is not None


def heading_of(line: str) -> str | None:
    """The title in a line such as `= = 개요 = =`, None for any other line."""
    match = _SECTION.fullmatch(line) if line.startswith("= = ") else None
    return match["title"].strip() if match else None


def _title_in(line: str, *, is_first: bool) -> str | None:
    if not is_first and not line.startswith(" = "):
        return None
    match = _TITLE.fullmatch(f" {line}" if is_first and line.startswith("= ") else line)
    return clean_title(match["title"] or "") if match else None
