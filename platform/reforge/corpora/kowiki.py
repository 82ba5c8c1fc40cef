"""Korean Wikipedia as people have it on disk: a raw dump, WikiExtractor's files, or title line + body lines."""

from typing import Literal

from reforge.corpora.wiki_markup import HeadingOf, korean_heading
from reforge.corpora.wikipedia import WikiFiles


class Kowiki(WikiFiles):
    """Korean Wikipedia: the headings that WikiExtractor leaves as short lines with a full stop (`개요.`) are known."""

    kind: Literal["kowiki"] = "kowiki"

    def extracted_headings(self) -> HeadingOf:
        return korean_heading
