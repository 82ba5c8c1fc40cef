"""SentencePiece's unigram model: the likeliest pieces of each word under a vocabulary found by EM and pruning.

text -- NFC, white space to one space --> words with the space before them --> likeliest pieces --> ids

Trained by SentencePiece itself: the `tokenizers` library's own trainer gives other pieces in every process. A smaller
vocabulary is not part of a larger one (pruning keeps other pieces, and their probabilities change), so it has to be
trained anew.

Source: Kudo 2018 (https://arxiv.org/abs/1804.10959).
"""

import io
from collections.abc import Sequence
from typing import Literal

from pydantic import Field
from tokenizers import Tokenizer, models

from reforge.spec import UserError
from reforge.tokenizers.metaspace import SPACE, metaspace, metaspace_decoder, one_space_normalizer, split_special
from reforge.tokenizers.morphemes import JOINER
from reforge.tokenizers.sentencepiece_model import Piece, pieces_of
from reforge.tokenizers.trained import TrainedOptions, check_room, find_alphabet

# SentencePiece's signs for the end of a sentence, an unknown character and a space are no characters to it.
_RESERVED = {"\0", "\u2585", SPACE}
_NUM_THREADS = 16  # the pieces depend on how many, in the last digits of their scores
_MAX_BYTES = 1 << 20


class Unigram(TrainedOptions):
    """A unigram model trained on a sample of the text.

    limit_alphabet: keep only the most frequent characters; runs of others become [UNK]
    """

    kind: Literal["unigram"] = "unigram"
    vocab_size: int = Field(default=8000, ge=7, le=2**24)
    limit_alphabet: int | None = Field(default=None, ge=1)

    def train_on(self, sampled: list[str], special_tokens: Sequence[str]) -> Tokenizer:
        normalizer = one_space_normalizer()
        texts = sorted(normalizer.normalize_str(text) for text in sampled)
        alphabet = find_alphabet(normalizer, sampled, self.limit_alphabet)
        kept = {*alphabet.kept, SPACE} - _RESERVED
        hint = f", or tokenizer.limit_alphabet below {max(2, self.vocab_size // 2)} (rarer characters become [UNK])"
        check_room(self.vocab_size, len(special_tokens), len(kept) + 1, f"{alphabet}single characters", hint)
        dropped = ({char for text in texts for char in text} - kept - {" "}) | _RESERVED
        away = str.maketrans(dict.fromkeys(dropped, JOINER))
        pieces = _trained([text.translate(away) for text in texts], self.vocab_size - len(special_tokens) + 1)
        return self._assemble(special_tokens, pieces)

    def _assemble(self, special_tokens: Sequence[str], pieces: list[Piece]) -> Tokenizer:
        vocabulary = [*((token, 0.0) for token in special_tokens), *((piece.text, piece.score) for piece in pieces)]
        tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=special_tokens.index("[UNK]"), byte_fallback=False))
        tokenizer.normalizer = one_space_normalizer()
        tokenizer.pre_tokenizer = metaspace(self.pretokenize == "mecab", split_special(special_tokens))
        tokenizer.decoder = metaspace_decoder()
        tokenizer.add_special_tokens(list(special_tokens))
        return tokenizer


def _trained(texts: list[str], vocab_size: int) -> list[Piece]:
    import sentencepiece

    if not any(texts):
        raise UserError("there is no text to train a tokenizer on")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="unigram",
        vocab_size=vocab_size,
        hard_vocab_limit=False,
        character_coverage=1.0,
        normalization_rule_name="identity",
        pretokenization_delimiter=JOINER,
        max_sentence_length=_MAX_BYTES,
        shuffle_input_sentence=False,
        num_threads=_NUM_THREADS,
        bos_id=-1,
        eos_id=-1,
        minloglevel=2,
    )
    return [piece for piece in pieces_of(model.getvalue()) if piece.type == "normal"]
