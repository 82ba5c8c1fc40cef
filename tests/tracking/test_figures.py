"""Pictures open, grow with their classes, and show names that no font has as numbers instead of warning."""

import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import colormaps
from matplotlib.font_manager import fontManager
from PIL import Image

from reforge.tasks import Confusion
from reforge.tracking import confusion_figure, per_class_figure
from reforge.tracking.class_names import DEFAULT_FAMILY, cut, shown_names

UNSHOWN = "\U000f0001"  # a private letter, which no font of any machine has
SYLLABLES = "\U000f0100\U000f0101"  # those of the font that these tests make


def confusion(names: list[str]) -> Confusion:
    return Confusion(tuple(names), np.arange(len(names) ** 2).reshape(len(names), -1))


def per_class(names: list[str]) -> dict[str, dict[str, float]]:
    return {
        name: {"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "support": float(place)}
        for place, name in enumerate(names)
    }


def size(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as picture:
        picture.load()
        assert picture.format == "PNG"
        return picture.size


def share_of_lightest(png: bytes) -> float:
    """The share of the picture that has the colour of 0."""
    lightest = [round(255 * part) for part in colormaps["Blues"](0.0)[:3]]
    with Image.open(io.BytesIO(png)) as picture:
        return float((np.asarray(picture.convert("RGB")) == lightest).all(axis=2).mean())


@pytest.fixture
def own_font(tmp_path: Path) -> Iterator[str]:
    family = "Reforge Test"
    pen = TTGlyphPen(None)
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder([".notdef", "one", "two"])
    font.setupCharacterMap(dict(zip(map(ord, SYLLABLES), ("one", "two"), strict=True)))
    font.setupGlyf(dict.fromkeys((".notdef", "one", "two"), pen.glyph()))
    font.setupHorizontalMetrics(dict.fromkeys((".notdef", "one", "two"), (500, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": family, "styleName": "Regular"})
    font.setupOS2(usWeightClass=400)
    font.setupPost()
    font.save(tmp_path / "test.ttf")
    before = list(fontManager.ttflist)
    fontManager.addfont(tmp_path / "test.ttf")
    yield family
    fontManager.ttflist[:] = before


@pytest.mark.parametrize("names", [["no", "yes"], ["$x_1$", UNSHOWN, "a name that is much longer than others are"]])
def test_pictures_are_drawn_without_a_warning(names: list[str], caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        assert min(size(confusion_figure(confusion(names)))) > 150
        assert min(size(per_class_figure(per_class(names)))) > 150
    assert not caplog.records


@pytest.mark.slow  # takes seconds
def test_a_picture_grows_with_its_classes_up_to_a_width() -> None:
    small, large = (size(confusion_figure(confusion([f"{n}" for n in range(count)]))) for count in (3, 10))
    assert large[0] > small[0] + 200
    assert large[1] > small[1] + 200
    upright, lying = (size(per_class_figure(per_class([f"{n}" for n in range(count)]))) for count in (12, 13))
    assert upright[0] > upright[1]
    assert lying[1] > upright[1]


def test_a_class_that_never_occurs_is_no_division_by_zero() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        half_empty = confusion_figure(Confusion(("seen", "never"), np.array([[3, 1], [0, 0]])))
        full = confusion_figure(Confusion(("seen", "never"), np.array([[3, 1], [1, 3]])))
    assert size(half_empty) == size(full)
    assert share_of_lightest(half_empty) > share_of_lightest(full) + 0.1, "its cells have the colour of 0, not of nan"


def test_names_are_cut_and_stand_on_one_line() -> None:
    assert cut("one\ntwo") == "one two"
    assert cut("x" * 40) == "x" * 23 + "…"
    assert cut("") == "(empty)"


def test_a_name_without_a_font_stands_as_its_place() -> None:
    assert shown_names(["plain", UNSHOWN, "é"]) == (["plain", "#2", "é"], [DEFAULT_FAMILY], 1)


def test_a_font_that_has_the_letters_is_found(own_font: str) -> None:
    assert shown_names(["plain", SYLLABLES]) == (["plain", SYLLABLES], [DEFAULT_FAMILY, own_font], 0)
    assert shown_names([SYLLABLES, UNSHOWN]) == ([SYLLABLES, "#2"], [DEFAULT_FAMILY, own_font], 1)
