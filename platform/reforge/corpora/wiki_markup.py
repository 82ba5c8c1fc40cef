"""What dump extractors leave of wiki markup, mended the way a reader would want the article.

entities -> characters -> tags -> links and tables -> formula sentences -> parentheses -> lines and headings

Every step counts in the tally what it changed.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Iterable

from reforge.corpora.parentheses import repair_parentheses
from reforge.corpora.tally import Tally

_ENTITY = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[a-zA-Z]\w*);")
# Joiners stay: emoji and several scripts are spelt with them. Direction marks, soft hyphens and the like go.
_INVISIBLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u2028\u2029\u2060\ufeff]")
# That, and space that is neither " " nor a line's end.
_ODD = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\xa0\u00ad\u1680\u2000-\u200b\u200e\u200f\u2028-\u202f\u205f\u2060\u3000\ufeff]"
)

_COMMENT = re.compile(r"<!--.*?-->", re.S)
_REMOVED_ELEMENTS = re.compile(
    r"<(ref|references|score|mapframe|maplink|timeline|gallery|imagemap|templatestyles|graph|section|inputbox)\b"
    r"(?:[^<>]*/>|[^<>]*>(?:.*?</\1\s*>)?)",
    re.S | re.I,
)
_FORMULA_ELEMENTS = re.compile(r"<(math|ce)\b[^<>]*>.*?</\1\s*>", re.S | re.I)
_LINE_BREAK = re.compile(r"</?br\b[^<>]*>", re.I)
_TAGS = re.compile(
    r"</?(?:abbr|b|bdi|big|blockquote|center|chem|ce|cite|code|del|dd|div|dl|dt|em|font|gallery|h[1-6]|hr|i|"
    r"includeonly|ins|kbd|langconvert|li|math|mapframe|noinclude|nowiki|ol|onlyinclude|p|poem|pre|rb|ref|references|"
    r"rp|rt|ruby|s|samp|score|section|small|source|span|strike|strong|sub|sup|syntaxhighlight|table|td|templatestyles|"
    r"th|timeline|tr|tt|u|ul|var)\b[^<>]*>",
    re.I,
)

_MEDIA_LINK = re.compile(
    r"\[\[\s*:?(?:분류|파일|그림|Category|File|Image)\s*:(?:[^\[\]\n]|\[\[[^\[\]]*\]\])*(?:\]\]|\]?$)", re.I | re.M
)
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]")
_WEB_LINK = re.compile(r"\[https?://[^\s\]]+ ?([^\]\n]*)\]")
_TEMPLATE = re.compile(r"\{\{[^{}]*\}\}")
_TABLE_LINE = re.compile(
    r"(?:\{\||\|\}|\|-|\}\})[^\n가-힣]*|\|\s.*|[\d\s|]*\|\|[\d\s|]*|.*\b(?:rowspan|colspan|bgcolor|cellpadding|cellspacing)\s*=.*",
)
_EMPTY_QUOTES = re.compile(r"[《〈「『‘“]\s*[》〉」』’”]")
_EMPTY_QUOTE = {sign: re.compile(rf"{sign}\s*[》〉」』’”]") for sign in "《〈「『‘“"}

_PLACEHOLDER = re.compile(r"(?:formula|codice)_\d+")
_ASIDE_PLACEHOLDER = re.compile(r" ?[(（]\s*(?:formula|codice)_\d+\s*[)）]")
_SENTENCE_END = re.compile(r"(?<=[.?!])\s+")

_HEADING_CHARS = 40
_HEADING = re.compile(r"[^.]*(?:\.[^.\s][^.]*)*\.")
_SENTENCE_ENDS = ("다.", "까.", "죠.", "세요.", "어요.", "아요.", "에요.", "예요.", "네요.", "군요.", "지요.")


HeadingOf = Callable[[str], str | None]


def clean(text: str, tally: Tally, *, keep_headings: bool, heading_of: HeadingOf) -> str:
    """The article's paragraphs, one a line, without blank lines; "" when nothing is left.

    heading_of: the heading that a line is, None for any other line
    """
    if "&" in text:
        text = _unescape(text, tally)
    text = unicodedata.normalize("NFC", text)
    has_odd_space = _ODD.search(text) is not None
    if has_odd_space:
        text = _INVISIBLE.sub("", text)
    if "<" in text:
        text = _remove_tags(text, tally)
    if "[[" in text or "{{" in text or "[http" in text:
        text = _remove_links(text, tally)
    if "formula_" in text or "codice_" in text:
        text = _remove_formula_sentences(text, tally)
    if any(sign in text and pattern.search(text) for sign, pattern in _EMPTY_QUOTE.items()):
        text = _replace(_EMPTY_QUOTES, "", text, tally, "empty quotation marks")
    if "(" in text or "（" in text:
        text, times = repair_parentheses(text)
        tally.fix("parentheses repaired", times)
    lines = _spaced_lines(text, has_odd_space)
    if "|" in text or "=" in text or "}}" in text:
        lines = _without_tables(lines, tally)
    return "\n".join(_paragraphs(lines, tally, keep_headings, heading_of))


def _replace(pattern: re.Pattern[str], by: str, text: str, tally: Tally, reason: str) -> str:
    text, times = pattern.subn(by, text)
    tally.fix(reason, times)
    return text


def _unescape(text: str, tally: Tally) -> str:
    tally.fix("escaped entity", len(_ENTITY.findall(text)))
    text = html.unescape(text)
    # Dumps escape once; what an editor had escaped by hand is then still an entity, and a reader saw a character.
    return html.unescape(text) if _ENTITY.search(text) else text


def remove_elements(text: str, tally: Tally) -> str:
    """The text without comments, references and galleries; a formula becomes a placeholder such as extractors leave."""
    text = _replace(_COMMENT, "", text, tally, "comment")
    text = _replace(_FORMULA_ELEMENTS, "formula_0", text, tally, "formula element")
    return _replace(_REMOVED_ELEMENTS, "", text, tally, "reference, map, score or gallery")


def _remove_tags(text: str, tally: Tally) -> str:
    text = remove_elements(text, tally)
    text = _replace(_LINE_BREAK, "\n", text, tally, "line break tag")
    return _replace(_TAGS, "", text, tally, "other tag")


def _remove_links(text: str, tally: Tally) -> str:
    text = _replace(_TEMPLATE, "", text, tally, "template")
    text = _replace(_MEDIA_LINK, "", text, tally, "category or file link")
    text = _replace(_LINK, r"\1", text, tally, "link")
    return _replace(_WEB_LINK, r"\1", text, tally, "web link")


def _remove_formula_sentences(text: str, tally: Tally) -> str:
    """Without its formula a sentence says nothing; a parenthesis that held only a formula goes alone."""
    text = _replace(_ASIDE_PLACEHOLDER, "", text, tally, "formula in parentheses")
    if not _PLACEHOLDER.search(text):
        return text
    return "\n".join(_without_formulas(line, tally) for line in text.split("\n"))


def _without_formulas(line: str, tally: Tally) -> str:
    if not _PLACEHOLDER.search(line):
        return line
    sentences = _SENTENCE_END.split(line)
    kept = [sentence for sentence in sentences if not _PLACEHOLDER.search(sentence)]
    tally.fix("sentence with a formula left out", len(sentences) - len(kept))
    return " ".join(kept)


def _spaced_lines(text: str, has_odd_space: bool) -> list[str]:
    """The lines that are not blank, with one space between words."""
    lines: Iterable[str]
    if has_odd_space or "  " in text:
        lines = (" ".join(line.split()) for line in text.split("\n"))
    else:
        lines = map(str.strip, text.split("\n"))
    return list(filter(None, lines))


def _without_tables(lines: list[str], tally: Tally) -> list[str]:
    table = {line for line in lines if ("|" in line or "=" in line or "}}" in line) and _TABLE_LINE.fullmatch(line)}
    if not table:
        return lines
    kept = [line for line in lines if line not in table]
    tally.fix("table line left out", len(lines) - len(kept))
    return kept


def _paragraphs(lines: list[str], tally: Tally, keep_headings: bool, heading_of: HeadingOf) -> list[str]:
    paragraphs: list[str] = []
    num_headings = num_trailing_headings = 0
    for line in lines:
        heading = heading_of(line)
        if heading is None:
            paragraphs.append(line)
            num_trailing_headings = 0
        elif keep_headings:
            paragraphs.append(heading)
            num_trailing_headings += 1
        else:
            num_headings += 1
    tally.fix("heading left out", num_headings)
    if num_trailing_headings:  # sections whose lists and tables the extractor dropped
        tally.fix("heading without text left out", num_trailing_headings)
        del paragraphs[-num_trailing_headings:]
    return paragraphs


def korean_heading(line: str) -> str | None:
    """The line if it is one of WikiExtractor's headings: short, one full stop at its end, and no Korean sentence."""
    if len(line) > _HEADING_CHARS or not line.endswith(".") or line.endswith(_SENTENCE_ENDS):
        return None
    return line if _HEADING.fullmatch(line) else None


def no_heading(line: str) -> str | None:
    """None, whatever the line: nothing tells headings from short sentences."""
    return None
