"""Corpora of articles: a title, and a body that is cleaned of what wikis and their extractors leave.

file -> Article(title, body) -> wiki_markup.clean -> Document(title + body)
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import Field

from reforge.corpora.corpus import Document, Slice
from reforge.corpora.files import FileCorpus
from reforge.corpora.reader import Reader
from reforge.corpora.tally import Tally
from reforge.corpora.wiki_markup import HeadingOf, clean


class Article(NamedTuple):
    """One article as a file has it. heading_of: the heading that a line of `body` is, None for any other line"""

    title: str
    body: str
    heading_of: HeadingOf


class Articles(FileCorpus):
    """Articles with their title as first line and one paragraph a line, without the residue of templates.

    keep_headings: keep the headings of sections, but for those at an article's end with nothing below them
    min_chars: articles whose body is shorter are dropped; redirects and other titles without a body always are
    """

    keep_headings: bool = False
    min_chars: int = Field(default=20, ge=1)

    def cuttable(self, whole: Slice) -> bool:
        return True

    def read_file(self, reader: Reader) -> Iterator[Document]:
        for article in self.articles(reader):
            text = self._text(article, reader.tally)
            if text is not None:
                reader.tally.keep(text)
                yield Document(f"{reader.name}: {article.title}", text)

    @abstractmethod
    def articles(self, reader: Reader) -> Iterator[Article]:
        """The articles that begin in the reader's range."""

    def _text(self, article: Article, tally: Tally) -> str | None:
        if not article.body or article.body.isspace():
            tally.drop("title only")
            return None
        body = clean(article.body, tally, keep_headings=self.keep_headings, heading_of=article.heading_of)
        if not body:
            tally.drop("nothing but headings and markup")
            return None
        if len(body) < self.min_chars:
            tally.drop(f"body shorter than {self.min_chars} characters")
            return None
        return f"{article.title}\n{body}" if article.title else body
