"""How the bytes of a text file stand for characters, and which encoding a file is probably in."""

import codecs
from typing import Literal

Encoding = Literal["utf-8", "cp949", "euc-kr", "utf-16"]
_SAMPLE_BYTES = 1 << 16


def has_byte_lines(encoding: Encoding) -> bool:
    """Whether byte 0x0A is a line's end and nothing else, so that a file can be cut into lines before it is decoded."""
    return encoding != "utf-16"


def likely_encoding(raw: bytes) -> str | None:
    """The name of the encoding that bytes which are not text in the expected one are probably in."""
    sample = raw[:_SAMPLE_BYTES]
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or sample.count(0) * 4 > len(sample):
        return "UTF-16"
    for name in ("UTF-8", "CP949"):
        text = codecs.getincrementaldecoder(name)(errors="replace").decode(sample)
        foreign = [character for character in text if not character.isascii()]
        if foreign and sum("가" <= character <= "힣" for character in foreign) > len(foreign) / 2:
            return name
    return None


def advice(raw: bytes, expected: str) -> str:
    """What to do about a file whose bytes `raw` are no text in the `expected` encoding."""
    likely = likely_encoding(raw)
    if likely is None or likely == expected.upper():
        return "Convert the file to UTF-8, leave it out, or set on_bad_record to skip"
    command = f"convert the file (iconv -f {likely} -t UTF-8)" if likely != "UTF-8" else "leave the option out"
    return (
        f"It reads as {likely}: {command}, set encoding: {likely.lower()} where the corpus has that option, "
        "or set on_bad_record to skip"
    )
