"""Wiki markup as editors write it, turned into the text that a reader of the page sees.

page -> without references, formulas, code, closing sections -> without what does not nest
     -> mwparserfromhell's nodes -> text, headings as they were

Plain links, tables and the signs of lists are most of the markup and most of the parser's time: patterns take them.
What is left of templates and the like is mended by `wiki_markup.clean`, as in text from any other extractor.
"""

import re
from collections.abc import Iterator

import mwparserfromhell
from mwparserfromhell.nodes import Comment, ExternalLink, Heading, HTMLEntity, Node, Tag, Template, Text, Wikilink
from mwparserfromhell.wikicode import Wikicode

from reforge.corpora.tally import Tally
from reforge.corpora.wiki_markup import remove_elements

_CODE_BLOCK = re.compile(r"<(syntaxhighlight|source|pre)\b[^<>]*>.*?</\1\s*>", re.S | re.I)
_HEADING = re.compile(r"^(={1,6})[ \t]*([^\n]*?)[ \t]*\1[ \t]*$", re.M)
# Lists of links, books and notes, and what stands below the last of them: navigation and categories.
_CLOSING_SECTIONS = {
    "각주", "주석", "주해", "출처", "참고문헌", "참고자료", "외부링크", "바깥고리", "같이보기", "관련항목", "둘러보기",
    "references", "notes", "footnotes", "citations", "sources", "bibliography", "externallinks", "seealso",
    "furtherreading", "notesandreferences", "referencesandnotes",
}  # fmt: skip
_STYLE = re.compile(r"'{2,5}")
_SWITCH = re.compile(r"__[A-Z가-힣]+__")
# What a template in the middle of a sentence, between two commas or at a line's start leaves behind.
_SPACE_LEFT = re.compile(r"(?<=\S)[ \u00a0]+(?=[,.](?:\s|$))", re.M)
_COMMAS_LEFT = re.compile(r",(?:[ \u00a0]*,)+")
_SIGN_LEFT = re.compile(r"^[ \t\u00a0]*[,:;][ \t\u00a0]+", re.M)
_VARIANT = re.compile(r"-\{(?:[^{}|]*\|)?(?:[a-z-]+:)?([^{};]*)[^{}]*\}-")

_HIDDEN_LINK = re.compile(
    r"(?:분류|파일|그림|미디어|category|file|image|media|kategorie|datei|bild|catégorie|fichier|categoría|archivo|"
    r"カテゴリ|ファイル|分类|文件|категория|файл|categoria)\s*:|.*\.(?:jpe?g|png|svg|gif|tiff?|og[gv]|webm)$",
    re.I,
)
_OTHER_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[a-z-]+)?:\S")
_PLAIN_LINK = re.compile(r"\[\[([^\[\]{}<>|\n]+)(?:\|([^\[\]{}<>|\n]*))?\]\]")
_LIST_SIGN = re.compile(r"^[*#:;]+", re.M)
_TABLE_START, _TABLE_END = r"[ \t:]*\{\|", r"[ \t]*\|\}(?!\})"
_INNERMOST_TABLE = re.compile(
    rf"^{_TABLE_START}[^\n]*\n(?:(?!{_TABLE_START}|{_TABLE_END})[^\n]*\n)*+{_TABLE_END}", re.M
)
# Templates that show one of their arguments.
_SHOWN = {
    "lang": "2", "llang": "2", "nowrap": "1", "nobr": "1", "em": "1", "strong": "1", "sub": "1", "sup": "1",
    "mvar": "1", "circa": "1", "c.": "1", "math": "1", "angbr": "1", "quote": "1", "blockquote": "1", "인용문": "1",
    "인용문2": "1", "국기": "1", "국기나라": "1", "flag": "1",
}  # fmt: skip
_RANGES = {"-", "–", "to", "and", "or", "by", "x", "×"}
_FORMULAS = {"math", "chem", "ce"}
_LEFT_OUT = {
    "categorytree", "gallery", "graph", "hiero", "imagemap", "inputbox", "mapframe", "maplink", "pre", "ref",
    "references", "score", "section", "source", "syntaxhighlight", "templatedata", "templatestyles", "timeline",
}  # fmt: skip
_MOST_UNCLOSED = 500
_MOST_LEFT = 20
_LINES = {"br", "hr", "p", "div", "blockquote", "center", "poem", "ul", "ol", "dl", "li"}


class WikitextError(Exception):
    """Markup that the parser does not get through."""


def plain_text(wikitext: str, tally: Tally) -> str:
    """The text of a page, a paragraph, a list's item or a heading (`== 개요 ==`) a line; raises WikitextError."""
    text = remove_elements(wikitext, tally)
    text, times = _CODE_BLOCK.subn("", text)
    tally.fix("code block", times)
    text = _without_what_does_not_nest(_without_closing_sections(text, tally), tally)
    text = _parsed(text, tally)
    text = _SWITCH.sub("", _VARIANT.sub(r"\1", _STYLE.sub("", text)))
    return _SIGN_LEFT.sub("", _COMMAS_LEFT.sub(",", _SPACE_LEFT.sub("", text)))


def heading_of(line: str) -> str | None:
    """The title in a line such as `== 개요 ==`, None for any other line."""
    match = _HEADING.fullmatch(line) if line[0] == "=" else None
    return match[2] or None if match else None


def _without_what_does_not_nest(text: str, tally: Tally) -> str:
    times = 1
    while times and "{|" in text:
        text, times = _INNERMOST_TABLE.subn("", text)
        tally.fix("table left out", times)
    text = _LIST_SIGN.sub("", text)
    return _PLAIN_LINK.sub(lambda link: _link_text(link[1], link[2], tally), text)


def _parsed(text: str, tally: Tally) -> str:
    if _num_unclosed(text) > _MOST_UNCLOSED:  # the parser tries every one of them to the page's end
        raise WikitextError("markup that is opened and not closed")
    try:
        shown = _shown(mwparserfromhell.parse(text, skip_style_tags=True), tally)
    except (mwparserfromhell.parser.ParserError, RecursionError) as error:
        raise WikitextError("markup that the parser does not get through") from error
    if any(
        shown.count(sign) > _MOST_LEFT for sign in ("{{", "}}", "[[", "]]")
    ):  # beyond a certain depth it gives up and leaves markup as it is
        raise WikitextError("markup nested too deep")
    return shown


def _num_unclosed(text: str) -> int:
    return max(text.count("{{") - text.count("}}"), text.count("[[") - text.count("]]"))


def _without_closing_sections(text: str, tally: Tally) -> str:
    pieces: list[str] = []
    start, left_out_level = 0, 7
    for match in _HEADING.finditer(text):
        level = len(match[1])
        if left_out_level == 7:
            pieces.append(text[start : match.start()])
        if level <= left_out_level:
            closes = "".join(match[2].split()).lower() in _CLOSING_SECTIONS
            left_out_level = level if closes else 7
            tally.fix("section of references or links", closes)
            start = match.start()
    if left_out_level == 7:
        pieces.append(text[start:])
    return "".join(pieces)


def _shown(code: Wikicode | None, tally: Tally) -> str:
    return "".join(_node_text(node, tally) for node in code.nodes) if code else ""


def _node_text(node: Node, tally: Tally) -> str:
    match node:
        case Text():
            return node.value
        case Wikilink():
            return _link_text(str(node.title), None if node.text is None else _shown(node.text, tally), tally)
        case Template():
            return _template_text(node, tally)
        case Tag():
            return _tag_text(node, tally)
        case Heading():
            signs = "=" * node.level
            return f"\n{signs} {_shown(node.title, tally).strip()} {signs}\n"
        case ExternalLink():
            tally.fix("web link")
            return _shown(node.title, tally)
        case HTMLEntity():
            return node.normalize() or ""
        case Comment():
            return ""
    return ""  # an argument: {{{1}}} in a page that is no template


def _link_text(target: str, label: str | None, tally: Tally) -> str:
    target = target.strip()
    if _HIDDEN_LINK.match(target) or (label is None and _OTHER_LANGUAGE.match(target)):
        tally.fix("category or file link")
        return ""
    tally.fix("link")
    return label if label is not None else target.removeprefix(":")


def _template_text(template: Template, tally: Tally) -> str:
    name = str(template.name).strip().lower()
    argument = "1" if name.startswith("lang-") else _SHOWN.get(name)
    if argument and template.has(argument):
        return _shown(template.get(argument).value, tally).strip()
    if name in ("convert", "cvt"):
        return " ".join(_quantity([str(parameter.value).strip() for parameter in template.params]))
    tally.fix("template")
    return ""


def _quantity(arguments: list[str]) -> Iterator[str]:
    """Number and unit of {{convert|5|km|mi}}, {{convert|5|to|8|km|mi}}."""
    for index, argument in enumerate(arguments):
        yield argument
        if index % 2 and argument not in _RANGES:
            return


def _tag_text(tag: Tag, tally: Tally) -> str:
    name = str(tag.tag).strip().lower()
    if name == "table":
        tally.fix("table left out")
        return "\n"
    if name in _LEFT_OUT:
        tally.fix("reference, map, score or gallery")
        return ""
    if name in _FORMULAS:
        tally.fix("formula element")
        return "formula_0"
    if tag.wiki_markup in ("*", "#", ":", ";"):
        return " "
    if name in _LINES:
        return f"\n{_shown(tag.contents, tally)}\n"
    return _shown(tag.contents, tally)
