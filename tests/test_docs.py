"""The documents agree with the repository: links lead somewhere, named files exist, both READMEs say the same."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("README*.md"), ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/*.md")])
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
FILE = re.compile(r"(?<![\w/])(?:jobs|benchmarks)/[\w./-]+\.(?:py|yaml)\b")
TARGET = re.compile(r"\bmake ([\w-]+)")
FIGURE = re.compile(r"\d+(?:[.,]\d+)+")
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return BLOCK.sub("", page.read_text(encoding="utf-8"))


def shell(page: Path) -> str:
    """The page's shell blocks, one after the other."""
    return "\n".join(body for kind, body in BLOCK.findall(page.read_text(encoding="utf-8")) if kind == "sh")


def commands(page: Path) -> list[list[str]]:
    """The words of each command in the page's shell blocks, without comments."""
    lines = shell(page).replace("\\\n", " ").split("\n")
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def anchors(page: Path) -> set[str]:
    """What GitHub calls the page's headings in links."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(prose(page))}


@each_page
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(prose(page)):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert target.is_relative_to(ROOT), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@each_page
def test_every_script_spec_and_target_that_is_named_exists(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in FILE.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / name).is_file(), name
    for name in TARGET.findall("\n".join(map(shlex.join, commands(page)))):
        assert f"\n{name}:" in makefile, name


def test_both_readmes_have_the_same_commands_specs_and_output() -> None:
    english, korean = ROOT / "README.md", ROOT / "README.ko.md"
    assert len(commands(english)) > 5
    assert commands(korean) == commands(english)
    specs, output = (
        [body for kind, body in BLOCK.findall(english.read_text(encoding="utf-8")) if kind == wanted]
        for wanted in ("yaml", "")
    )
    shown = korean.read_text(encoding="utf-8")
    assert all(body in shown for body in specs)
    assert all(body in shown for body in output if not body.startswith("runs/"))  # that one explains each file


def test_both_readmes_have_the_same_figures_in_their_tables() -> None:
    rows = [re.findall(r"^\|.*", prose(ROOT / name), re.MULTILINE) for name in ("README.md", "README.ko.md")]
    english, korean = (FIGURE.findall("\n".join(table)) for table in rows)
    assert len(english) > 5
    assert korean == english


def test_both_readmes_lead_to_the_same_pages() -> None:
    links = [{path for path, _ in LINK.findall(prose(ROOT / name))} for name in ("README.md", "README.ko.md")]
    assert links[0] - {"README.ko.md"} == links[1] - {"README.md"}
    assert {"README.ko.md"} <= links[0]
    assert {"README.md"} <= links[1]
