"""Answers of a model as a terminal shows them: entities in their text, and the probabilities of classes."""

import io
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

BAR_CELLS = 30
OTHER_COLOURS = ("bright_red", "bright_green", "bright_yellow", "bright_blue", "bright_magenta", "bright_cyan")
# The usual types apart from each other; all others by their name, so that a type has one colour in every text.
COLOURS = {
    **dict.fromkeys(("PS", "PER", "person"), "yellow"),
    **dict.fromkeys(("LC", "LOC", "location"), "green"),
    **dict.fromkeys(("OG", "ORG", "corporation"), "cyan"),
    **dict.fromkeys(("DT", "DAT"), "magenta"),
    **dict.fromkeys(("TI", "TIM"), "blue"),
    **dict.fromkeys(("QT", "NUM"), "red"),
}


def show_entities(text: str, entities: Sequence[Mapping[str, Any]], colour: bool) -> str:
    """The text with its entities in place: in colours for a terminal, or as "[Ada PS]".

    entities: each with "type", "start" and "end" (characters, end exclusive), in any order, none over another
    """
    shown, end = Text(), 0
    for entity in sorted(entities, key=lambda entity: int(entity["start"])):
        start, kind = int(entity["start"]), str(entity["type"])
        assert end <= start <= entity["end"] <= len(text), f"{entity} in a text of {len(text)} characters"
        shown.append(text[end:start])
        end = int(entity["end"])
        if colour:
            shown.append(f" {text[start:end]} ", f"bold reverse {_colour(kind)}").append(f"{kind} ", _colour(kind))
        else:
            shown.append(f"[{text[start:end]} {kind}]")
    return _rendered(shown.append(text[end:]), colour)


def show_classes(probabilities: Mapping[str, float], colour: bool) -> str:
    """A line for each class with its probability and a bar, the likeliest first."""
    width = max(map(cell_len, probabilities), default=0)
    lines = []
    for place, (name, share) in enumerate(sorted(probabilities.items(), key=lambda item: -item[1])):
        bar = "█" * round(share * BAR_CELLS)
        padded = name + " " * (width - cell_len(name))
        lines.append(Text(f"{padded}  {share:6.1%}  {bar}".rstrip(), "bold green" if place == 0 else ""))
    return _rendered(Text("\n").join(lines), colour)


def _colour(kind: str) -> str:
    return COLOURS.get(kind) or OTHER_COLOURS[zlib.crc32(kind.encode()) % len(OTHER_COLOURS)]


def _rendered(text: Text, colour: bool) -> str:
    if not colour:
        return text.plain
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, color_system="standard", no_color=False, highlight=False)
    console.print(text, end="", soft_wrap=True)
    return stream.getvalue()
