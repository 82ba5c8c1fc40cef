"""The first tokens of a block and how a model goes on: what people look at beside the loss.

Shapes: B batch, T tokens, N blocks, V vocabulary.
"""

from collections.abc import Callable

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from reforge.models import Cache
from reforge.objectives.masking import PAD_ID
from reforge.objectives.objective import Sample
from reforge.tokenizers import Vocabulary

NUM_PROMPT_TOKENS = 16
NUM_NEW_TOKENS = 32
NUM_CANDIDATES = 10  # the likeliest token alone leads a young model into a loop, all of them into noise


@torch.no_grad()
def continue_blocks(
    tokenizer: Tokenizer,
    vocabulary: Vocabulary,
    blocks_NT: np.ndarray,
    next_logits: Callable[[Tensor, Cache | None], Tensor],
    new_cache: Callable[[], Cache | None],
) -> list[Sample]:
    """For each block with text in it: its first tokens, and a continuation drawn by torch's random state.

    `next_logits` takes ids [1, T] and a cache, and gives the logits [1, V] of the next token.
    """
    found, end_id = [], vocabulary.document_end
    for ids_T in blocks_NT:
        num_prompt = 1 + min(NUM_PROMPT_TOKENS, len(ids_T) // 2)
        prompt = ids_T[:num_prompt][ids_T[:num_prompt] != PAD_ID].tolist()
        # Only what stands after the last separator belongs to the document that goes on.
        after = len(prompt) - prompt[::-1].index(end_id) if end_id in prompt else 1
        if after >= len(prompt):
            continue
        ids = list(prompt)
        _extend(ids, min(len(ids_T), len(ids) + NUM_NEW_TOKENS), vocabulary, next_logits, new_cache())
        shown, whole = (tokenizer.decode(part) for part in (prompt[after:], ids[after:]))
        end = f" {tokenizer.id_to_token(end_id)}" if ids[-1] == end_id else ""
        found.append(Sample(shown, f"... {whole.removeprefix(shown).strip()}{end}"))
    return found


def _extend(
    ids: list[int],
    length: int,
    vocabulary: Vocabulary,
    next_logits: Callable[[Tensor, Cache | None], Tensor],
    cache: Cache | None,
) -> None:
    """Add tokens to `ids` until there are `length`, or the document ends."""
    while len(ids) < length and ids[-1] != vocabulary.document_end:
        known = 0 if cache is None else cache.num_tokens
        logits_V = next_logits(torch.tensor([ids[known:]]), cache)[0].float()
        logits_V[vocabulary.never_text] = -torch.inf
        top = logits_V.topk(min(NUM_CANDIDATES, len(logits_V) - len(vocabulary.never_text)))
        ids.append(int(top.indices[torch.multinomial(top.values.softmax(-1), 1)]))
