"""Lists in JSON files too large to be held in memory, element by element.

    [e, e, e]     or     {"id": "x", "document": [e, e, e], ...}

At most one element, and a megabyte of text around it, is in memory.
"""

import codecs
import json
from collections.abc import Iterator
from typing import Any, BinaryIO

from reforge.spec import UserError

_CHUNK_BYTES = 1 << 20
# An opening quote without its end would else pull the rest of the file into memory.
_VALUE_CHARS = 1 << 26
# The longest token but a string that may be cut by the end of what was read: \uXXXX\uXXXX.
_TOKEN_CHARS = 16
_SPACE = " \t\n\r"


class BrokenJsonError(UserError):
    """Text that is no JSON."""


class NoListError(UserError):
    """JSON without the list that was asked for."""


def elements(content: BinaryIO, key: str, place: str) -> Iterator[Any]:
    """The elements of the list that the whole content is, or that stands under `key` of the object that it is.

    place: the file, for messages
    Raises BrokenJsonError, with the line, after the last whole element; NoListError at the end where there is no list.
    """
    text = _Text(content, place)
    if text.next_char() == "[":
        yield from text.items()
    elif text.next_char() == "{":
        yield from _under(key, text)
    else:
        text.value()
        raise NoListError(f"{place}: must be a list or an object")
    text.end()


def _under(key: str, text: "_Text") -> Iterator[Any]:
    found, others = False, list[str]()
    for name in text.keys():  # noqa: SIM118  (no dict: it moves on)
        if text.next_char() != "[":
            text.value()
            others.append(name)
        elif name == key:
            found = True
            yield from text.items()
        else:
            for _ in text.items():
                pass
            others.append(name)
    if not found:
        raise NoListError(f"{text.place}: must have a list {key!r}, has {', '.join(others) or 'nothing'}")


class _Text:
    """A window on the text that moves forward as values are taken from it."""

    def __init__(self, content: BinaryIO, place: str) -> None:
        self.place = place
        self._content = content
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._decode = json.JSONDecoder().raw_decode
        self._text, self._at = "", 0
        self._lines_before = 0
        self._ended = False
        self._spoilt = ""

    def next_char(self) -> str:
        """The next character that is no space, which stays where it is; "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if self._ended:
                return ""
            self._fill(_CHUNK_BYTES)

    def items(self) -> Iterator[Any]:
        """The elements of the list that begins here."""
        self._take("[")
        while self.next_char() != "]":
            yield self.value()
            if self.next_char() != "]":
                self._take(",")
                self._not_last("]")
        self._at += 1

    def keys(self) -> Iterator[str]:
        """The keys of the object that begins here; whoever is given one takes its value before the next."""
        self._take("{")
        while self.next_char() != "}":
            if self.next_char() != '"':
                raise self.broken("expected a key in double quotes")
            name = self.value()
            self._take(":")
            yield name
            if self.next_char() != "}":
                self._take(",")
                self._not_last("}")
        self._at += 1

    def value(self) -> Any:
        """The whole value that begins here."""
        self.next_char()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._ended or not self._may_be_cut(error):
                    raise self.broken(error.msg, error.pos) from error
            except RecursionError as error:
                raise self.broken("nested too deep") from error
            else:
                if end < len(self._text) or self._ended:
                    self._at = end
                    return value
            self._fill(max(_CHUNK_BYTES, len(self._text) - self._at))

    def end(self) -> None:
        """Nothing but space is left."""
        if self.next_char() or self._spoilt:
            raise self.broken("expected its end")

    def broken(self, what: str, at: int | None = None) -> BrokenJsonError:
        if self._spoilt:
            what, at = self._spoilt, len(self._text)
        line = 1 + self._lines_before + self._text.count("\n", 0, self._at if at is None else at)
        return BrokenJsonError(f"{self.place}:{line}: no JSON: {what}")

    def _take(self, char: str) -> None:
        if self.next_char() != char:
            raise self.broken(f"expected {char!r}" + ("" if self.next_char() else ", got the end"))
        self._at += 1

    def _not_last(self, closing: str) -> None:
        if self.next_char() == closing:
            raise self.broken(f"',' before {closing!r}")

    def _may_be_cut(self, error: json.JSONDecodeError) -> bool:
        if len(self._text) - self._at > _VALUE_CHARS:
            return False
        return error.msg.startswith("Unterminated string") or error.pos + _TOKEN_CHARS > len(self._text)

    def _fill(self, num_bytes: int) -> None:
        raw = self._content.read(num_bytes)
        self._lines_before += self._text.count("\n", 0, self._at)
        self._text, self._at = self._text[self._at :] + self._decoded(raw), 0

    def _decoded(self, raw: bytes) -> str:
        """The text of the next bytes; what is no UTF-8 ends the text before it, so that all before it is read."""
        self._ended = not raw
        try:
            return self._decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            self._ended = True
            self._spoilt = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
            return error.object[: error.start].decode("utf-8-sig")
