"""Tags of whole texts from the scores of their positions: texts of similar length go through the decoder together."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from reforge.heads import TokenHead
from reforge.tasks.task import Array

# Scores that are decoded at once, at most, unless a single text has more: 16 MiB.
MAX_VALUES = 2**22


@torch.no_grad()
def decode(head: TokenHead, scores: Sequence[Array]) -> list[Array]:
    """The best tags [W] of each text, given its scores [W, K]; forbidden sequences never come out of a CRF."""
    found = [np.zeros(0, dtype=np.int64)] * len(scores)
    device = next(head.parameters()).device
    for numbers in _batches([len(one) for one in scores], max((one.shape[1] for one in scores), default=1)):
        scores_BWK, real_BW = _padded([scores[number] for number in numbers])
        tags_BW = head.decode(scores_BWK.to(device), real_BW.to(device)).cpu().numpy()
        for number, tags_W in zip(numbers, tags_BW, strict=True):
            found[number] = tags_W[: len(scores[number])]
    return found


def _batches(lengths: Sequence[int], num_tags: int) -> Iterator[list[int]]:
    """Numbers of texts that have a position, by length."""
    batch: list[int] = []
    for number in sorted((n for n, length in enumerate(lengths) if length), key=lambda n: lengths[n]):
        if batch and (len(batch) + 1) * lengths[number] * num_tags > MAX_VALUES:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def _padded(scores: Sequence[Array]) -> tuple[Tensor, Tensor]:
    widest = max(map(len, scores))
    scores_BWK = np.zeros((len(scores), widest, scores[0].shape[1]), dtype=np.float32)
    for row, one in zip(scores_BWK, scores, strict=True):
        row[: len(one)] = one
    lengths_B1 = np.array([[len(one)] for one in scores])
    return torch.from_numpy(scores_BWK), torch.from_numpy(np.arange(widest) < lengths_B1)
