"""Text in which a generator replaced tokens, and which of them a discriminator found: what people look at for ELECTRA.

Shapes: T tokens.
"""

import numpy as np
from tokenizers import Tokenizer

from reforge.objectives.objective import Sample

SHOWN_TOKENS_EACH_SIDE = 16


def show_replaced(
    tokenizer: Tokenizer, num_special: int, original_T: np.ndarray, corrupted_T: np.ndarray, probs_T: np.ndarray
) -> Sample | None:
    """The stretch around the replaced token nearest the middle; None where nothing was replaced.

    Replaced tokens stand in brackets; beneath, each with the original and the discriminator's probability `probs_T`
    that it is replaced, and then the original tokens that it takes for replaced.
    """
    replaced_T = original_T != corrupted_T
    if not replaced_T.any():
        return None
    window = _window(original_T >= num_special, replaced_T)
    words = [tokenizer.id_to_token(int(i)) or "" for i in corrupted_T[window]]
    lines = list(zip(words, original_T[window].tolist(), replaced_T[window], probs_T[window], strict=True))
    found = [
        f"{word} (was {tokenizer.id_to_token(was)}) {'found' if prob > 0.5 else 'missed'} {prob:.0%}"
        for word, was, replaced, prob in lines
        if replaced
    ]
    alarms = [f"{word} {prob:.0%}" for word, _, replaced, prob in lines if prob > 0.5 and not replaced]
    outcome = "  ".join(found) + f"    false alarms: {'  '.join(alarms) or 'none'}"
    return Sample(_text(tokenizer, corrupted_T[window], replaced_T[window]), outcome)


def _window(ordinary_T: np.ndarray, replaced_T: np.ndarray) -> slice:
    """The ordinary tokens around the replaced one nearest the middle of the text, within its document."""
    middle = int(ordinary_T.sum()) // 2
    places = np.flatnonzero(replaced_T)
    centre = int(places[np.abs(places - middle).argmin()])
    special = np.flatnonzero(~ordinary_T)
    before, after = special[special < centre], special[special > centre]
    first = max(centre - SHOWN_TOKENS_EACH_SIDE, int(before[-1]) + 1 if len(before) else 0)
    last = min(centre + SHOWN_TOKENS_EACH_SIDE + 1, int(after[0]) if len(after) else len(ordinary_T))
    return slice(first, last)


def _text(tokenizer: Tokenizer, ids_T: np.ndarray, marked_T: np.ndarray) -> str:
    """The tokens as text, the marked ones in brackets."""
    parts = []
    start = 0
    for place in [*np.flatnonzero(marked_T).tolist(), len(ids_T)]:
        parts.append(tokenizer.decode(ids_T[start:place].tolist()))
        if place < len(ids_T):
            parts.append(f"[{tokenizer.id_to_token(int(ids_T[place]))}]")
        start = place + 1
    return " ".join(" ".join(parts).split())
