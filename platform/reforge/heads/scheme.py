"""IOB2 tags (Ramshaw and Marcus 1995): B-X begins an entity of type X, I-X goes on with it, O is outside of all."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Scheme(NamedTuple):
    """What a list of K tags forbids.

    not_first_K: no text starts with it
    not_after_KK: row i, column j: j does not come right after i
    begins_K: the tag that begins an entity where this one goes on with it, B-X of I-X; any other tag itself
    """

    not_first_K: Tensor
    not_after_KK: Tensor
    begins_K: Tensor


def scheme_of(names: Sequence[str], num_tags: int) -> Scheme:
    """The rules of IOB2 where all names are its tags; else, or without names, nothing is forbidden."""
    if not is_iob2(names):
        nothing_K = torch.zeros(num_tags, dtype=torch.bool)
        return Scheme(nothing_K, nothing_K.expand(num_tags, num_tags).clone(), torch.arange(num_tags))
    assert len(names) == num_tags, names
    return Scheme(
        torch.tensor([not may_follow("O", name) for name in names]),
        torch.tensor([[not may_follow(before, name) for name in names] for before in names]),
        torch.tensor([names.index(begin_of(name)) for name in names]),
    )


def is_iob2(names: Sequence[str]) -> bool:
    """Whether every name is O, B-X or I-X, and each I-X has its B-X."""
    shaped = all(name == "O" or (name[:2] in ("B-", "I-") and len(name) > 2) for name in names)
    return bool(names) and shaped and all(begin_of(name) in names for name in names)


def may_follow(before: str, name: str) -> bool:
    """Whether IOB2 has `name` right after `before`; what starts a text is as after O."""
    return not name.startswith("I-") or before in (name, begin_of(name))


def begin_of(name: str) -> str:
    """B-X of I-X, any other tag as it is."""
    return f"B-{name[2:]}" if name.startswith("I-") else name


def mended(scheme: Scheme, tags_BS: Tensor) -> Tensor:
    """The tags with B-X for each I-X that the scheme forbids where it stands: so conlleval and seqeval read them."""
    forbidden_B1 = scheme.not_first_K[tags_BS[:, :1]]
    forbidden_BR = scheme.not_after_KK[tags_BS[:, :-1], tags_BS[:, 1:]]
    # No later tag minds the change: whatever may follow I-X may follow B-X.
    return torch.where(torch.cat((forbidden_B1, forbidden_BR), dim=1), scheme.begins_K[tags_BS], tags_BS)
