"""Text of data sets inside Markdown."""

import re

_INLINE = re.compile(r"[\\`*_\[\]<>#|~$&]")
_FIRST = re.compile(r"^(\d+(?=[.)](?:\s|$))|(?=[-+=](?:[-=\s]|$)))")  # what makes a list or a heading of a line


def plain(text: str, longest: int) -> str:
    """Text that Markdown shows as it is, on one line, cut after `longest` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    rest = f" … ({len(line):,} characters)" if len(line) > longest else ""
    escaped = _INLINE.sub(r"\\\g<0>", line[:longest])
    return (_FIRST.sub(r"\1\\", escaped) or "(nothing)") + rest
