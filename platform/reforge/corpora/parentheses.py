"""Parentheses that lost what templates had put there: `지미(, 1924년 ~ )`, `화학(化學, )`, `위키(, )`, `가위()`.

Extractors drop {{lang}}, {{IPA}}, {{llang}} and keep the commas around them. Code such as `printf()` is left alone.
"""

import re

# Only innermost pairs that something may be wrong with: most pairs need no second look.
_GROUP = (
    r"(?=[\s,;:/~·)）]|[^()（）\n]*(?:[\s,;:/~·][)）]|[,;:]\s*[,;])|(?:또는|혹은|및)[)）])"
    r"([^()（）\n]*)[)）]"
)
_ASCII_GROUP = re.compile(rf"\({_GROUP}")  # a pattern that begins with a letter is searched several times as fast
_ANY_GROUP = re.compile(rf"[(（]{_GROUP}")
_SEPARATORS = " \u00a0\u3000,;:/~\u00b7"
_CONNECTORS = {"또는", "혹은", "및"}
# A label whose word is gone, `독일어: `; not what a list of examples starts with.
_LABEL_ALONE = re.compile(r"(?:(?<=[,;])|^)\s*(?!예)[가-힣 ]{1,12}:\s*(?=[,;]|$)")
_REPEATED = re.compile(r"([,;:])(?:\s*[,;])+")
_WORD_BEFORE = re.compile(r"[A-Za-z_][\w.]*$", re.A)
_WORD_CHARS = 40
_CODE_WORD = re.compile(r"[a-z]|\w*_|[\w.]*\.[A-Za-z]", re.A)
_KEYWORDS = {"for", "while", "if", "switch"}
_NAMED_SIGN = re.compile(r"(?:쉼표|반점|콤마|쌍점|콜론|쌍반점|빗금|슬래시|comma|colon) ?$")
_HANGUL = re.compile(r"[가-힣]")
# Around an inner pair that stays, the outer pair's own separators: `나토(, 약칭 NATO(North ...), )`.
_OUTER_START = re.compile(r"(?<=[가-힣\u4e00-\u9fff》」』\"'][(（])\s*[,;:](?:\s*[,;])*\s*(?=[^\s,;)）])")
_OUTER_END = re.compile(r"(?<=[)）])\s*[,;]\s*(?=[)）])")
_BROKEN_END = re.compile(r"[,;\s]{0,20}\n[,;\s]{0,20}(?=[)）][가-힣])")
# What the three patterns above need, found faster.
_MAYBE_OUTER_START = re.compile(r"\(\s*[,;:]")
_MAYBE_OUTER_END = re.compile(r"\)\s*[,;]\s*[)）]")
_MAYBE_BROKEN_END = re.compile(r"\n[,;\s]{0,20}[)）][가-힣]")


def repair_parentheses(text: str) -> tuple[str, int]:
    """The text without empty parentheses and stray separators inside others, and how many pairs were changed."""
    if _MAYBE_BROKEN_END.search(text):
        text = _BROKEN_END.sub("", text)
    text, changed = _repair_innermost(text)
    if changed:  # an inner pair that went away can leave an outer one empty
        text, more = _repair_innermost(text)
        changed += more
    wide = "（" in text or "）" in text
    if wide or _MAYBE_OUTER_START.search(text):
        text, times = _OUTER_START.subn("", text)
        changed += times
    if wide or _MAYBE_OUTER_END.search(text):
        text, times = _OUTER_END.subn("", text)
        changed += times
    return text, changed


def _repair_innermost(text: str) -> tuple[str, int]:
    """Copied piece by piece, because a dropped pair takes the space before it along."""
    pieces: list[str] = []
    position = changed = 0
    group = _ANY_GROUP if "（" in text else _ASCII_GROUP
    for match in group.finditer(text):
        mended = _mended(match)
        if mended == match[1]:
            continue
        before = text[position : match.start()]
        if mended:
            pieces += [before, match[0][0], mended, match[0][-1]]
        else:
            pieces.append(before if _needs_space(text[match.end() : match.end() + 1]) else before.rstrip(" "))
        position = match.end()
        changed += 1
    pieces.append(text[position:])
    return "".join(pieces), changed


def _needs_space(after: str) -> bool:
    return after.isascii() and after.isalnum()


def _mended(match: re.Match[str]) -> str | None:
    """What should stand inside a pair; None where the pair should go."""
    inside = match[1]
    content = inside.strip(_SEPARATORS)
    if not content or content in _CONNECTORS:
        return inside if _means_itself(match) else None
    if content == inside and "," not in inside and ":" not in inside:
        return inside
    if _is_code(match):
        return inside
    return _REPEATED.sub(r"\1", _LABEL_ALONE.sub("", inside)).strip(" ,;").lstrip(": ") or None


def _word_before(match: re.Match[str]) -> str:
    """The ASCII word directly before a pair, or a keyword before a space and the pair; "" if there is none."""
    before = match.string[max(0, match.start() - _WORD_CHARS) : match.start()]
    found = _WORD_BEFORE.search(before)
    if found:
        return found[0]
    found = _WORD_BEFORE.search(before.rstrip(" "))
    return found[0] if found and found[0] in _KEYWORDS else ""


def _means_itself(match: re.Match[str]) -> bool:
    """Whether a pair without content is no residue: a call, a blank to fill in, or a sign that is the subject."""
    inside = match[1]
    if not inside.strip():
        return _is_call(match) or (bool(inside) and match.string.startswith(("안", " 안"), match.end()))
    if inside in ("~", "//", ";;", "·"):
        return True
    return len(inside) == 1 and _NAMED_SIGN.search(match.string[max(0, match.start() - 8) : match.start()]) is not None


def _is_call(match: re.Match[str]) -> bool:
    word = _word_before(match)
    after = match.string[match.end() : match.end() + 2].lstrip(" ")
    return word != "" and (_CODE_WORD.match(word) is not None or after[:1] in (";", "{"))


def _is_code(match: re.Match[str]) -> bool:
    """Whether commas and spaces inside belong to a program: `for (; i < n;)`, `print(x, )`."""
    word, inside = _word_before(match), match[1]
    if not word or _HANGUL.search(inside):
        return False
    return word in _KEYWORDS or not inside.lstrip().startswith((",", ";", ":"))
