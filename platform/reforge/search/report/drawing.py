"""Pictures as SVG that stands in a page of HTML: small, without a reference to anything outside, light or dark.

matplotlib's options are changed while a picture is drawn and no longer; nothing here touches pyplot. Optuna's own
pictures do both, and know neither parameters that only some trials have nor stopped trials.
"""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from markupsafe import Markup, escape

from reforge.search.report.findings import Parameter

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

INK = "#010203"  # stands for the colour of the page's text
BLUE, ORANGE, GREEN, SKY, RED, PINK, GREY = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#56b4e9",
    "#d55e00",
    "#cc79a7",
    "#8a8a8a",
)  # told apart by the colour-blind too
PALE = "#b8b8b8"
OUTCOME_COLOURS = {
    "finished": BLUE,
    "pruned": ORANGE,
    "diverged": PINK,
    "failed": RED,
    "infeasible": GREY,
    "running": GREEN,
    "added": SKY,
}
MOST_LABELS = 30  # of a choice, that are written at an axis
_LONGEST_LABEL = 16
_NUM_POWERS = 5  # on a logarithmic axis
_MOST_LETTERS = 22  # of labels side by side
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text, in the fonts of whoever reads it
    "text.parse_math": False,
    "axes.formatter.use_mathtext": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "path.simplify_threshold": 0.5,
} | dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK)
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_REMOVED = re.compile(
    r"""<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>|<defs>\s*</defs>|\ xmlns(:\w+)?="[^"]*"|"""
    r"""\ version="1.1"|\ transform="rotate\(-0\ [^"]*"|(?<=\d\.\d\d)\d+""",
    re.DOTALL | re.VERBOSE,
)
_SIZE = re.compile(r'width="([\d.]+)pt" height="[\d.]+pt"')
_ID = re.compile(r' id="([^"]*)"')
_REFERENCE = re.compile(r'(?:href="|url\()#([^")]*)')
_FONT = re.compile(r"font: ([\d.]+px) [^;\"]*")
_MARKS = re.compile(r'<g( clip-path="[^"]*")>\s*((?:<use [^>]*? style="([^"]*)"/>\s*)+)</g>')
_EMPTY_LINES = re.compile(r"\n\s*")


@dataclass(frozen=True)
class Picture:
    """A drawing and what it is called; `points` wide."""

    name: str
    svg: Markup
    points: float


def picture(name: str, width: float, height: float, draw: Callable[["Axes"], None]) -> Picture:
    """A picture of one pair of axes, in inches; it is as large as what is drawn around them needs.

    No two pictures of a page may have one name.
    """
    return _drawn(name, (width, height), (0.0, 0.0, 1.0, 1.0), draw, {"bbox_inches": "tight", "pad_inches": 0.04})


def small_picture(name: str, longest_label: int, draw: Callable[["Axes"], None]) -> Picture:
    """One of many that stand side by side. Of one size, which takes half the time: nothing is measured.

    longest_label: letters of the longest upright label under the axes, 0 where labels lie
    """
    under = max(0.25, 0.1 + 0.08 * longest_label)
    width, height = 3.3, 1.55 + under
    return _drawn(name, (width, height), (0.19, under / height, 0.77, 1.3 / height), draw, {})


def _drawn(
    name: str,
    size: tuple[float, float],
    place: tuple[float, float, float, float],
    draw: Callable[["Axes"], None],
    saving: dict[str, Any],
) -> Picture:
    import matplotlib
    from matplotlib.figure import Figure

    content = io.StringIO()
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the reader's fonts draw the text, not matplotlib's
        figure = Figure(figsize=size)
        draw(figure.add_axes(place))
        figure.savefig(content, format="svg", transparent=True, metadata=_NO_METADATA, **saving)
    return _embedded(name, content.getvalue())


def plain(text: str, longest: int = _LONGEST_LABEL) -> str:
    """Text on one line as a picture can have it; a long one without its middle."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    if len(line) <= longest:
        return line
    return f"{line[: longest // 2]}…{line[len(line) - longest // 2 + 1 :]}"


def mark_parameter(axes: "Axes", side: Literal["x", "y"], parameter: Parameter) -> None:
    """Scale and ticks of a parameter along one side of the axes."""
    axis = axes.xaxis if side == "x" else axes.yaxis
    if parameter.num_decades is not None:
        axes.set(**{f"{side}scale": "log"})
        mark_powers(axis, parameter.num_decades)
    if not parameter.labels:
        return
    labels = [plain(label) for label in parameter.labels]
    axes.set(**{f"{side}lim": (-0.6, len(labels) - 0.4)})
    if len(labels) > MOST_LABELS:
        axis.set_ticks([0, len(labels) - 1], ["first", f"{len(labels)}th"])
        return
    axis.set_ticks(range(len(labels)), labels)
    if side == "x" and longest_upright(parameter):
        axis.set_tick_params(rotation=90)


def longest_upright(parameter: Parameter) -> int:
    """Letters of the longest label where labels do not fit side by side and so stand upright, else 0."""
    lengths = [len(plain(label)) for label in parameter.labels]
    return max(lengths) if sum(lengths) > _MOST_LETTERS and len(lengths) <= MOST_LABELS else 0


def legend_above(axes: "Axes", **options: Any) -> None:
    """The legend over the axes, where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, borderaxespad=0.2, handletextpad=0.4, **options)


def dots(axes: "Axes", across: Sequence[float], up: Sequence[float], whole: bool, label: str | None = None) -> None:
    """Trials as marks: those trained to their end as blue dots, stopped ones as orange crosses."""
    marker, colour, edge = ("o", BLUE, 0.0) if whole else ("x", ORANGE, 1.0)
    axes.plot(across, up, marker, color=colour, markersize=4.5, markeredgewidth=edge, alpha=0.75, label=label)


def mark_powers(axis: "Axis", num_decades: float) -> None:
    """Ticks of a logarithmic axis in plain text: matplotlib's own are formulas."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    between = (1.0, 2.0, 5.0) if num_decades < 1.7 else (1.0, 3.0) if num_decades < 2.5 else (1.0,)
    axis.set_major_locator(LogLocator(subs=between, numticks=_NUM_POWERS))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def count_whole(axis: "Axis") -> None:
    """Ticks at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", integer=True))


def _embedded(name: str, svg: str) -> Picture:
    svg = svg[svg.index("<svg") :]
    found = _SIZE.search(svg)
    assert found is not None
    points = float(found.group(1))
    svg = _REMOVED.sub("", svg.replace("xlink:href", "href").replace(INK, "currentColor"))
    svg = _FONT.sub(r"font-size: \1", svg)
    svg = _SIZE.sub(f'role="img" aria-label="{escape(plain(name, 200))}"', svg, count=1)
    used = set(_REFERENCE.findall(svg))
    svg = _ID.sub(lambda match: match.group() if match.group(1) in used else "", svg)
    return Picture(name, Markup(_EMPTY_LINES.sub("\n", _MARKS.sub(_with_shared_style, svg))), points)


def _with_shared_style(marks: re.Match[str]) -> str:
    """Marks that look alike say so once."""
    group, uses, style = marks.groups()
    written = f' style="{style}"'
    if uses.count(written) < uses.count("<use"):
        return marks.group()
    return f"<g{group}{written}>{uses.replace(written, '')}</g>"
