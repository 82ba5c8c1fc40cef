"""Which side of the train/validation split a document falls on, by its text alone."""

import hashlib

_SCALE = float(1 << 64)


def split_position(text: str) -> float:
    """A number in [0, 1] that depends on the text only; documents below `valid_fraction` are for validation.

    So adding documents moves none, equal texts fall on the same side, and a larger fraction only adds to validation.
    """
    digest = hashlib.blake2b(text.encode(), digest_size=8, key=b"reforge train/valid split").digest()
    return int.from_bytes(digest) / _SCALE
