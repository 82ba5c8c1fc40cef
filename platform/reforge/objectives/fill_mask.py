"""Sentences with one word hidden, and what a model would fill in: what people look at beside the loss.

Shapes: B batch, T tokens, N blocks, V vocabulary.
"""

from collections.abc import Callable

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from reforge.objectives.masking import MASK_ID, PAD_ID
from reforge.objectives.objective import Sample
from reforge.tokenizers import Vocabulary

NUM_GUESSES = 5
SHOWN_TOKENS_EACH_SIDE = 14


@torch.no_grad()
def fill_masks(
    tokenizer: Tokenizer, vocabulary: Vocabulary, blocks_NT: np.ndarray, logits: Callable[[Tensor, Tensor], Tensor]
) -> list[Sample]:
    """For each block that has one: its most central one-token word hidden, and the best guesses at it.

    `logits` takes ids [1, T] and the mask of real tokens [1, T] and gives logits [1, T, V].
    """
    found = []
    for ids_T in blocks_NT:
        place = _central_word(tokenizer, vocabulary.num_special, ids_T)
        if place is None:
            continue
        hidden_T = ids_T.copy()
        hidden_T[place] = MASK_ID
        ids_BT = torch.from_numpy(hidden_T)[None]
        probs_V = logits(ids_BT, ids_BT != PAD_ID)[0, place].softmax(-1)
        probs_V[: vocabulary.num_special] = 0
        top = probs_V.topk(min(NUM_GUESSES, len(probs_V)))
        guesses = "  ".join(
            f"{_word(tokenizer, i)} {p:.0%}" for i, p in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        )
        answer = _word(tokenizer, int(ids_T[place]))
        found.append(
            Sample(_show(tokenizer, vocabulary.document_end, ids_T, place), f"was: {answer}    guesses: {guesses}")
        )
    return found


def _word(tokenizer: Tokenizer, token_id: int) -> str:
    return tokenizer.id_to_token(token_id) or ""


def _central_word(tokenizer: Tokenizer, num_special: int, ids_T: np.ndarray) -> int | None:
    """The place nearest the middle that is a whole word of at least three letters (two where letters are syllables)."""
    words = [_word(tokenizer, int(i)) for i in ids_T]
    middle = int((ids_T != PAD_ID).sum()) // 2

    def fits(place: int) -> bool:
        word, after = words[place], words[place + 1]
        long_enough = len(word) >= (3 if word.isascii() else 2)
        return ids_T[place] >= num_special and word.isalpha() and long_enough and not after.startswith("##")

    places = [place for place in range(1, len(words) - 1) if fits(place)]
    return min(places, key=lambda place: abs(place - middle), default=None)


def _show(tokenizer: Tokenizer, separator: int, ids_T: np.ndarray, place: int) -> str:
    before = ids_T[max(0, place - SHOWN_TOKENS_EACH_SIDE) : place].tolist()
    after = ids_T[place + 1 : place + 1 + SHOWN_TOKENS_EACH_SIDE].tolist()
    # Only the sentence around the mask belongs to its document: what stands beyond a separator is another one.
    if separator in before:
        before = before[len(before) - before[::-1].index(separator) :]
    if separator in after:
        after = after[: after.index(separator)]
    text = f"{tokenizer.decode(before)} [MASK] {tokenizer.decode(after)}"
    return " ".join(text.split())
