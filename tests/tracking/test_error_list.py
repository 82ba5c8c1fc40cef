"""The list of errors is the worst first, counts all, and shows texts as they are."""

from pathlib import Path

from reforge.tasks import Verdict
from reforge.tracking import write_errors
from reforge.tracking.error_list import LONGEST_TEXT


def headings(text: str) -> list[str]:
    return [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]


def test_worst_first_then_by_key_and_right_ones_left_out(tmp_path: Path) -> None:
    path = tmp_path / "errors.md"
    badness = {"c": 0.5, "right": 0.0, "b": 0.5, "worst": 0.9, "least": 0.1}
    write_errors(path, [(key, Verdict(bad, f"text {key}", "PS", "LC")) for key, bad in badness.items()], limit=3)
    text = path.read_text(encoding="utf-8")
    assert headings(text) == ["1. worst", "2. b", "3. c"]
    assert "4 of 5 examples are wrong (80.00%). The 3 worst of them:" in text
    assert "\ntext worst\n\n- gold: PS\n- guess: LC\n- badness: 0.9\n" in text
    assert [file.name for file in tmp_path.iterdir()] == ["errors.md"]


def test_nothing_wrong_and_nothing_at_all(tmp_path: Path) -> None:
    write_errors(tmp_path / "a.md", [("k", Verdict(0.0, "t", "a", "a"))])
    assert "0 of 1 examples are wrong (0.00%)." in (tmp_path / "a.md").read_text(encoding="utf-8")
    write_errors(tmp_path / "b.md", [])
    assert "0 of 0 examples are wrong." in (tmp_path / "b.md").read_text(encoding="utf-8")


def test_markdown_and_control_characters_of_a_text_do_nothing(tmp_path: Path) -> None:
    text = "# 제목 *굵게* <b> [x](y) `a` a|b\n- 줄\x1b[31m\ud800"
    write_errors(tmp_path / "e.md", [("1. key", Verdict(1.0, text, "", "- a"))])
    lines = (tmp_path / "e.md").read_text(encoding="utf-8").splitlines()
    assert r"\# 제목 \*굵게\* \<b\> \[x\](y) \`a\` a\|b - 줄 \[31m" in lines
    assert "- gold: (nothing)" in lines
    assert r"- guess: \- a" in lines


def test_a_long_text_is_cut_and_says_how_long_it_is(tmp_path: Path) -> None:
    write_errors(tmp_path / "e.md", [("k", Verdict(1.0, "가" * 100_000, "a", "b"))])
    text = (tmp_path / "e.md").read_text(encoding="utf-8")
    assert "가" * LONGEST_TEXT + " … (100,000 characters)" in text
    assert len(text) < LONGEST_TEXT + 200
