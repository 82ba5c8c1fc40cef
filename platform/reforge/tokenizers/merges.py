"""Byte pair encoding from a vocabulary alone: two pieces join wherever the joined piece is a token, earlier ones first.

The trainer's own list of merges names a pair once, at the last time it was counted, so a smaller vocabulary's list is
not the beginning of a larger one's. The order of its tokens is.

Source: Sennrich et al. 2016 (https://arxiv.org/abs/1508.07909); joined by rank as in SentencePiece and tiktoken.
"""

from collections.abc import Sequence

from tokenizers import Tokenizer, models, trainers

from reforge.tokenizers.trained import tokens_of


def bpe_model(tokens: list[str], num_special: int, unk_token: str | None) -> models.BPE:
    """The model that has these tokens by their ids."""
    return models.BPE(
        {token: i for i, token in enumerate(tokens)}, merges_of(tokens[num_special:]), unk_token=unk_token
    )


def merges_of(tokens: Sequence[str]) -> list[tuple[str, str]]:
    """Every pair of tokens that is a token, in the order of the latter."""
    known = set(tokens)
    splits = ((token[:at], token[at:]) for token in tokens for at in range(1, len(token)))
    return [(left, right) for left, right in splits if left in known and right in known]


def grow(
    tokenizer: Tokenizer, texts: list[str], special: Sequence[str], alphabet: list[str], vocab_size: int, frequency: int
) -> list[str]:
    """The tokens, by their ids, that byte pair encoding finds in the texts as `tokenizer` cuts them into words."""
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=frequency,
        show_progress=False,
        special_tokens=list(special),
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return tokens_of(tokenizer)
