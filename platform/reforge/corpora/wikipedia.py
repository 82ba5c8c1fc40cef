"""Wikipedia as people have it on disk, and wikis like it: a raw dump, an extractor's files.

Each file is looked at by itself: its first line says which layout it has.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Literal

from reforge.corpora.articles import Article, Articles
from reforge.corpora.mediawiki_xml import Page, pages
from reforge.corpora.reader import Reader
from reforge.corpora.wiki_markup import HeadingOf, no_heading
from reforge.corpora.wikiextractor import begins_doc, clean_title, doc_entries, json_entries, title_body_entries
from reforge.corpora.wikitext import WikitextError, heading_of, plain_text


class WikiFiles(Articles):
    """Articles of a wiki in any layout."""

    @abstractmethod
    def extracted_headings(self) -> HeadingOf:
        """What tells the headings in an extractor's text, where nothing marks them."""

    def articles(self, reader: Reader) -> Iterator[Article]:
        first = reader.first_line()
        if first.startswith(("<mediawiki", "<?xml", "<page>")):
            yield from _dump_articles(reader)
            return
        layout = json_entries if first.startswith('{"') else doc_entries if begins_doc(first) else title_body_entries
        headings = self.extracted_headings()
        for title, lines in layout(reader):
            yield Article(title, "\n".join(lines), headings)


class Wikipedia(WikiFiles):
    """A Wikipedia in any language. In extractors' files its headings look like short sentences and stay."""

    kind: Literal["wikipedia"] = "wikipedia"

    def extracted_headings(self) -> HeadingOf:
        return no_heading


def _dump_articles(reader: Reader) -> Iterator[Article]:
    for page in pages(reader):
        if page.namespace != "0":
            reader.tally.drop("page of another namespace")
        elif page.is_redirect or _begins_redirect(page):
            reader.tally.drop("redirect")
        else:
            try:
                text = plain_text(page.wikitext, reader.tally)
            except WikitextError as error:
                reader.tally.drop(f"page with {error}")
                continue
            yield Article(clean_title(page.title), text, heading_of)


def _begins_redirect(page: Page) -> bool:
    return page.wikitext.lstrip()[:9].lower().startswith(("#redirect", "#넘겨주기"))
