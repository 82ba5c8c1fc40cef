"""The characters that stand for bytes in the tokens of byte-level models, as in GPT-2's encoder."""


def _byte_characters() -> list[str]:
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(256)]


BYTE_CHARACTERS = _byte_characters()  # by the byte
BYTES = {char: byte for byte, char in enumerate(BYTE_CHARACTERS)}
