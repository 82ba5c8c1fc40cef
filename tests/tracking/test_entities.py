"""Entities stand in their text, each type in one colour."""

import re

from reforge.tracking import show_classes, show_entities

TEXT = "어제 김하늘 씨는 대전역에 갔다."
ENTITIES = [{"type": "LC", "start": 10, "end": 13}, {"type": "PS", "start": 3, "end": 6}]


def colours(shown: str) -> list[str]:
    return re.findall(r"\x1b\[([\d;]+)m", shown)


def test_entities_in_brackets() -> None:
    assert show_entities(TEXT, ENTITIES, colour=False) == "어제 [김하늘 PS] 씨는 [대전역 LC]에 갔다."
    assert show_entities("[b]없음[/b]", [], colour=False) == "[b]없음[/b]"
    assert show_entities("가나", [{"type": "A", "start": 0, "end": 1}, {"type": "A", "start": 1, "end": 2}], False) == (
        "[가 A][나 A]"
    )


def test_colours_are_the_types_and_the_text_stays() -> None:
    shown = show_entities(TEXT, ENTITIES, colour=True)
    assert re.sub(r"\x1b\[[\d;]*m", "", shown) == "어제  김하늘 PS  씨는  대전역 LC 에 갔다."
    person, _, place, _ = [code for code in colours(shown) if code != "0"]
    assert person != place
    other = show_entities("x", [{"type": "PS", "start": 0, "end": 1}], colour=True)
    assert person in colours(other)


def test_a_long_text_is_not_broken_into_lines() -> None:
    assert "\n" not in show_entities("가나다 " * 200, [{"type": "new", "start": 0, "end": 3}], colour=True)


def test_classes_stand_below_each_other_the_likeliest_first() -> None:
    assert show_classes({"no": 0.1, "긍정": 0.9}, colour=False).splitlines() == [
        "긍정   90.0%  " + "█" * 27,
        "no     10.0%  " + "█" * 3,
    ]
    assert "\x1b[" in show_classes({"no": 0.1, "긍정": 0.9}, colour=True)
    assert show_classes({}, colour=False) == ""
