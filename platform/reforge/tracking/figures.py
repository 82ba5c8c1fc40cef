"""Pictures of a set's scores, as PNG.

Nothing here touches matplotlib's global state (pyplot), and it is imported on first use: that takes a second.
"""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reforge.tasks import Confusion
from reforge.tracking.class_names import ShownNames, shown_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Array = NDArray[Any]
DPI = 100
MOST_WITH_COUNTS = 60  # classes of a confusion matrix that has its counts written into it
MOST_WITH_SHARES = 20  # and the percentages too
MOST_WITH_NAMES = 250
MOST_UPRIGHT = 12  # classes whose bars stand upright
MOST_BARS = 100
WIDEST_INCHES = 40.0
FIGURES = {"precision": "#0072B2", "recall": "#E69F00", "f1": "#009E73"}  # told apart by the colour-blind too


def confusion_figure(confusion: Confusion) -> bytes:
    """The confusion matrix as a PNG: true classes as rows, colours by the share of the row.

    Counts stand in the cells of up to 60 classes, percentages too up to 20. Names that no installed font can show
    stand as their place (#1 ...) in `confusion.names`.
    """
    counts = np.asarray(confusion.counts)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    num_classes = len(confusion.names)
    cell = _cell_inches(num_classes)
    side = num_classes * cell
    figure, axes = _canvas(side, side)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    shown = shown_names(confusion.names)
    for axis in (axes.xaxis, axes.yaxis):
        names = shown.names if num_classes <= MOST_WITH_NAMES else []
        _name_ticks(axis, names, shown, min(10.0, 72 * cell * 0.8))
    axes.tick_params(axis="x", rotation=0 if max(map(len, shown.names)) <= 3 else 90)
    axes.set(xlabel="predicted class", ylabel="true class")
    if num_classes <= MOST_WITH_COUNTS:
        _write_counts(axes, counts, shares, cell)
    bar = figure.colorbar(image, cax=figure.add_axes((1 + 0.15 / side, 0, 0.15 / side, min(1.0, 6 / side))))
    bar.set_label("share of the true class")
    return _png(figure, axes, "Confusion matrix", shown)


def per_class_figure(per_class: Mapping[str, Mapping[str, float]]) -> bytes:
    """Precision, recall and F1 of each class as bars in a PNG, the class with the most examples first.

    Upright up to 12 classes, lying beyond, and of 100 at most. Each class has "precision", "recall", "f1" and
    "support". Names that no installed font can show stand as their place (#1 ...) in `per_class`.
    """
    shown = shown_names(list(per_class))
    named = sorted(zip(shown.names, per_class.values(), strict=True), key=lambda pair: -pair[1]["support"])[:MOST_BARS]
    upright = len(named) <= MOST_UPRIGHT
    length = max(4.0, len(named) * (1.1 if upright else 0.5))
    figure, axes = _canvas(length, 4.0) if upright else _canvas(8.0, length)
    _draw_bars(axes, [scores for _, scores in named], upright)
    gap = "\n" if upright else "  "
    labels = [f"{name}{gap}({scores['support']:,.0f})" for name, scores in named]
    _name_ticks(axes.xaxis if upright else axes.yaxis, labels, shown, 9.0)
    if upright:
        axes.set(ylim=(0, 1.08), ylabel="score")
        axes.tick_params(axis="x", rotation=0 if max(map(len, shown.names)) <= 12 else 30)
    else:
        axes.set(xlim=(0, 1.08), xlabel="score", ylim=(len(named) - 0.4, -0.6))
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
    most = f", the {MOST_BARS} most frequent of {len(per_class):,}" if len(per_class) > MOST_BARS else ""
    return _png(figure, axes, f"Scores of each class (number of examples){most}", shown)


def _draw_bars(axes: "Axes", figures: list[Mapping[str, float]], upright: bool) -> None:
    places = np.arange(len(figures))
    thickness = 0.8 / len(FIGURES)
    for number, (figure, colour) in enumerate(FIGURES.items()):
        at = places + (number - 1) * thickness
        values = [scores[figure] for scores in figures]
        draw = axes.bar if upright else axes.barh
        bars = draw(at, values, thickness * 0.95, color=colour, label="F1" if figure == "f1" else figure)
        axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=1)


def _write_counts(axes: "Axes", counts: Array, shares: Array, cell: float) -> None:
    with_shares = len(counts) <= MOST_WITH_SHARES
    points = min(9.0, 72 * cell * 0.22)
    for (row, column), count in np.ndenumerate(counts):
        if count:
            share = shares[row, column]
            text = f"{count:,}\n{share:.0%}" if with_shares else f"{count:,}"
            colour = "white" if share > 0.5 else "black"
            label = axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=points)
            label.set_in_layout(False)  # measuring thousands of them takes seconds, and they lie inside anyway


def _cell_inches(num_classes: int) -> float:
    if num_classes > MOST_WITH_COUNTS:
        return min(0.14, WIDEST_INCHES / num_classes)
    return 0.8 if num_classes <= 8 else 0.6 if num_classes <= MOST_WITH_SHARES else 0.45


def _canvas(width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure, figure.add_axes((0, 0, 1, 1))


def _name_ticks(axis: "Axis", names: list[str], shown: ShownNames, points: float) -> None:
    axis.set_ticks(range(len(names)), names, fontsize=points, fontfamily=shown.families, parse_math=False)


def _png(figure: "Figure", axes: "Axes", title: str, shown: ShownNames) -> bytes:
    if shown.num_numbered:
        title += "\n#n: class n in metrics.json; no installed font has its letters"
    axes.set_title(title, pad=30 if axes.get_legend() else 8)
    content = io.BytesIO()
    figure.savefig(content, format="png", bbox_inches="tight")
    return content.getvalue()
