"""The encoder where a tokenizer is not one of ours, and its memory; that it agrees with every kind is a contract."""

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from reforge.tokenizers import SPECIAL_TOKENS, TOKENIZERS, Encoder

TEXT = "학교에서  갔다. 'don't' a.b≮c É é ①  漢字 [MASK]도\n\n친구와 학교 \x1c x=y"
VOCABULARY = {
    piece: i for i, piece in enumerate([*SPECIAL_TOKENS, *sorted(set(TEXT) - {"도"}), *map(chr, range(97, 123))])
}


def character_tokenizer(normalizer: object, pre_tokenizer: object) -> Tokenizer:
    tokenizer = Tokenizer(
        models.BPE(VOCABULARY, [("a", "b"), ("학", "교")] * ("학교" in VOCABULARY), unk_token="[UNK]")
    )
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


@pytest.mark.parametrize(
    ("normalizer", "pre_tokenizer"),
    [
        (None, None),
        (normalizers.NFKC(), pre_tokenizers.Metaspace()),
        (normalizers.NFC(), pre_tokenizers.Metaspace(prepend_scheme="first")),
        (None, pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Digits()])),
        (None, pre_tokenizers.ByteLevel(add_prefix_space=True)),
        (normalizers.Lowercase(), pre_tokenizers.ByteLevel(add_prefix_space=False)),
        (normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()),
        (normalizers.BertNormalizer(clean_text=False), pre_tokenizers.BertPreTokenizer()),
        (normalizers.BertNormalizer(lowercase=False, strip_accents=True), pre_tokenizers.BertPreTokenizer()),
        (normalizers.Strip(), pre_tokenizers.Whitespace()),
    ],
)
def test_other_tokenizers_are_cut_only_where_that_is_exact(normalizer: object, pre_tokenizer: object) -> None:
    tokenizer = character_tokenizer(normalizer, pre_tokenizer)
    library = Tokenizer.from_str(tokenizer.to_str())
    library.encode_special_tokens = True
    texts = [TEXT, f" {TEXT} ", "", " "]
    assert [ids.tolist() for ids in Encoder(tokenizer).encode(texts)] == [library.encode(text).ids for text in texts]


def test_tokens_that_are_looked_for_in_the_text_are_found() -> None:
    tokenizer = character_tokenizer(None, pre_tokenizers.Metaspace())
    tokenizer.add_tokens([AddedToken("갔다. 'don", normalized=False)])
    (ids,) = Encoder(tokenizer).encode([TEXT])
    assert ids.tolist() == _as_text(tokenizer).encode(TEXT).ids
    assert tokenizer.token_to_id("갔다. 'don") in ids


def _as_text(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.encode_special_tokens = True
    return tokenizer


def test_truncation_and_padding_of_a_file_play_no_part() -> None:
    tokenizer = TOKENIZERS["wordpiece"](vocab_size=100).train([TEXT] * 3)
    (expected,) = Encoder(tokenizer).encode([TEXT])
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=50)
    (got,) = Encoder(tokenizer).encode([TEXT])
    assert got.tolist() == expected.tolist()


def test_memory_is_bounded() -> None:
    tokenizer = TOKENIZERS["wordpiece"](vocab_size=100).train([TEXT] * 3)
    encoder = Encoder(tokenizer, cache_bytes=10_000)
    for start in range(0, 3000, 30):
        encoder.encode([f"낱말{number} a" for number in range(start, start + 30)])
        assert encoder._used_bytes < 10_000 + 31 * 300
