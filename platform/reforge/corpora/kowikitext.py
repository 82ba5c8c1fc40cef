"""Korean Wikipedia by lovit, in Korpora's wikitext layout: kowikitext_20200920.train, .dev, .test."""

from typing import Literal

from reforge.corpora.korpora_wikitext import KorporaWikitext


class Kowikitext(KorporaWikitext):
    """Articles of kowikitext with their title as first line."""

    kind: Literal["kowikitext"] = "kowikitext"
