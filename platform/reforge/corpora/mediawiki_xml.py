"""The pages of a MediaWiki XML dump (https://www.mediawiki.org/wiki/Help:Export), one in memory at a time.

A dump has one tag a line where pages begin and end, so a page is the lines between them, and a dump can be read from
any page on, without its header.
"""

from collections.abc import Iterator
from typing import NamedTuple
from xml.etree import ElementTree

from reforge.corpora.reader import Reader


class Page(NamedTuple):
    """The last revision of a page. namespace: 0 is an article"""

    title: str
    namespace: str
    is_redirect: bool
    wikitext: str


def pages(reader: Reader) -> Iterator[Page]:
    """Every whole page that begins in the reader's range; one that is cut off or no XML is a bad record."""
    lines: list[str] | None = None
    first_revision = 0
    for line in reader.lines(cut_before=begins_page):
        if begins_page(line):
            _bad_if_open(lines, reader)
            lines, first_revision = [line], 0
        elif lines is not None:
            if line.strip() == "<revision>":  # dumps with a page's history hold many
                first_revision = first_revision or len(lines)
                del lines[first_revision:]
            lines.append(line)
            if line.strip() == "</page>":
                if page := _page("\n".join(lines), reader):
                    yield page
                lines = None
    _bad_if_open(lines, reader)


def begins_page(line: str) -> bool:
    """Whether a page begins at this line; in the text of a page `<` is written `&lt;`."""
    return line.strip() == "<page>"


def _bad_if_open(lines: list[str] | None, reader: Reader) -> None:
    if lines is not None:
        reader.bad("page without its end", "a <page> without </page>: the file is cut off or damaged")


def _page(text: str, reader: Reader) -> Page | None:
    try:
        page = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        reader.bad("page that is no XML", f"a page that ends here is no XML: {error}")
        return None
    return Page(
        page.findtext("title", ""),
        page.findtext("ns", "0"),
        page.find("redirect") is not None,
        page.findtext("revision/text") or "",
    )
