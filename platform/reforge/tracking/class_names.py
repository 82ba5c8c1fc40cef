"""Names of classes as a picture can show them: whole where an installed font has their letters, cut where long."""

from collections.abc import Sequence
from typing import NamedTuple

LONGEST_NAME = 24
PLACEHOLDER_FAMILY = "Last Resort"  # comes with matplotlib and "has" every letter, as a picture of its alphabet
DEFAULT_FAMILY = "DejaVu Sans"  # comes with matplotlib
# Tried before all others, whose letters may be of any style: the usual Korean fonts of Linux, Windows and macOS.
KOREAN_FAMILIES = ("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Malgun Gothic", "Apple SD Gothic Neo")


class ShownNames(NamedTuple):
    """Names to draw.

    families: font families, to be tried letter by letter in this order
    num_numbered: how many names stand as #1, #2 ... (their place among all names) because no font has their letters
    """

    names: list[str]
    families: list[str]
    num_numbered: int


def shown_names(names: Sequence[str]) -> ShownNames:
    """How to draw the names of classes with the fonts of this machine; none of it makes matplotlib warn."""
    from matplotlib.font_manager import findfont

    short = [cut(name) for name in names]
    known = _letters_in(findfont(DEFAULT_FAMILY))
    strange = {name for name in short if not known.issuperset(name)}
    if not strange:
        return ShownNames(short, [DEFAULT_FAMILY], 0)
    family, letters = _font_for({letter for name in strange for letter in name} - known)
    known |= letters
    shown = [name if known.issuperset(name) else f"#{place}" for place, name in enumerate(short, start=1)]
    return ShownNames(shown, [DEFAULT_FAMILY, *family], sum(not known.issuperset(name) for name in short))


def cut(name: str) -> str:
    """A name on one line, of at most `LONGEST_NAME` characters."""
    line = " ".join(name.split()) or "(empty)"
    return line if len(line) <= LONGEST_NAME else line[: LONGEST_NAME - 1].rstrip() + "…"


def _font_for(letters: set[str]) -> tuple[list[str], set[str]]:
    """The family that has most of the letters, and all that it has; nothing where no font has any."""
    best: tuple[list[str], set[str]] = ([], set())
    for family, path in _regular_fonts():
        found = _letters_in(path)
        if len(found & letters) > len(best[1] & letters):
            best = [family], found
        if found >= letters:
            break
    return best


def _regular_fonts() -> list[tuple[str, str]]:
    """Family and file of the upright fonts of regular weight: matplotlib takes these without a remark."""
    from matplotlib.font_manager import fontManager

    fonts = {
        font.name: font.fname
        for font in fontManager.ttflist
        if (font.style, font.weight) == ("normal", 400) and not font.name.startswith(PLACEHOLDER_FAMILY)
    }
    first = [family for family in KOREAN_FAMILIES if family in fonts]
    return [(family, fonts[family]) for family in dict.fromkeys([*first, *sorted(fonts)])]


def _letters_in(path: str) -> set[str]:
    from matplotlib.font_manager import get_font

    return {chr(code) for code in get_font(path).get_charmap()}
