"""The page itself: one file of HTML with its style, its script and its pictures in it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined

from reforge.search.options import MetricOptions
from reforge.search.report.section import Section
from reforge.search.report.summary import Summary
from reforge.search.report.trial_table import TrialTable

_TEMPLATE = "page.html"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True)
class Page:
    """What stands on it. spec: the search's YAML."""

    title: str
    written: datetime
    metrics: Sequence[MetricOptions]
    summary: Summary
    sections: Sequence[Section]
    trials: TrialTable
    spec: str


def render(page: Page) -> str:
    """The HTML; whatever a user or an error wrote is escaped."""
    templates = Environment(
        loader=PackageLoader("reforge.search.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    written = page.written.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    html = templates.get_template(_TEMPLATE).render(page=page, written=written)
    return _valid(html)


def _valid(html: str) -> str:
    """Without what UTF-8 and HTML cannot have: half letters and control characters, as error messages bring them."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", html.encode("utf-8", "backslashreplace").decode())
