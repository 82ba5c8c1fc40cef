"""Namuwiki by lovit, in Korpora's wikitext layout: namuwikitext_20200302.train, .dev, .test."""

from typing import Literal

from reforge.corpora.korpora_wikitext import KorporaWikitext


class Namuwikitext(KorporaWikitext):
    """Articles of namuwikitext with their title as first line."""

    kind: Literal["namuwikitext"] = "namuwikitext"
