"""WordPiece: the same from the same text, Korean left whole, and a clear word about vocabularies that can't work."""

import unicodedata

import pytest
from tokenizers import Tokenizer

from reforge.spec import UserError
from reforge.tokenizers import SPECIAL_TOKENS
from reforge.tokenizers.morphemes import Morphemes
from reforge.tokenizers.wordpiece import WordPiece

KOREAN = [
    "학교에 갔다. 학교에서 친구를 만났다. 친구와 학교 앞에서 놀았다.",
    "나는 학교에 가는 친구를 좋아한다. 漢字와 English, café, 123도 있다.",
] * 5


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return WordPiece(vocab_size=120).train(KOREAN)


def test_special_tokens_come_first_and_only_they_are_special(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == list(range(5))
    assert {token.content for token in tokenizer.get_added_tokens_decoder().values()} == set(SPECIAL_TOKENS)
    assert tokenizer.encode("학교 [MASK] 친구").ids[1] == tokenizer.token_to_id("[MASK]")


def test_encoding_adds_nothing_and_decodes_to_the_text(tokenizer: Tokenizer) -> None:
    encoding = tokenizer.encode("친구와 학교 앞에서")
    assert not set(encoding.ids) & set(range(5))
    assert tokenizer.decode(encoding.ids) == "친구와 학교 앞에서"
    assert tokenizer.encode("학교").tokens == ["학교"]


def test_decomposed_text_is_the_same_text_and_accents_stay(tokenizer: Tokenizer) -> None:
    text = "학교 친구 café"
    assert tokenizer.encode(unicodedata.normalize("NFD", text)).ids == tokenizer.encode(text).ids
    assert "é" in tokenizer.decode(tokenizer.encode(text).ids)


def test_lowercase() -> None:
    tokenizer = WordPiece(vocab_size=120, lowercase=True).train(KOREAN)
    assert tokenizer.encode("ENGLISH").ids == tokenizer.encode("english").ids


def test_little_text_ends_in_a_smaller_vocabulary() -> None:
    assert WordPiece(vocab_size=30_000).train(KOREAN).get_vocab_size() < 300


def test_a_vocabulary_smaller_than_the_alphabet_is_refused_with_the_numbers() -> None:
    alphabet = {char for text in KOREAN for char in text if not char.isspace()}
    with pytest.raises(UserError) as error:
        WordPiece(vocab_size=20).train(KOREAN)
    assert f"{len(alphabet)} different characters" in str(error.value)
    assert "tokenizer.vocab_size 20 is too small" in str(error.value)
    needed = int(str(error.value).partition("Set tokenizer.vocab_size above ")[2].partition(",")[0])
    assert WordPiece(vocab_size=needed + 1).train(KOREAN).get_vocab_size() == needed + 1


def test_limit_alphabet_keeps_the_most_frequent_characters() -> None:
    tokenizer = WordPiece(vocab_size=20, limit_alphabet=6).train(KOREAN)
    assert tokenizer.get_vocab_size() <= 20
    assert tokenizer.encode("漢").tokens == ["[UNK]"]
    assert "[UNK]" not in tokenizer.encode("학교").tokens


def test_training_on_stand_ins_finds_what_the_library_finds() -> None:
    """Morphemes are trained on words in other letters; on words alone that is the library's own training."""
    options = WordPiece(vocab_size=200)
    made = options.assemble([*SPECIAL_TOKENS], len(SPECIAL_TOKENS))
    start = [*SPECIAL_TOKENS, *options._alphabet(made, KOREAN, len(SPECIAL_TOKENS))]
    by_stand_ins = options._grow_morphemes(made, KOREAN, start)
    assert by_stand_ins == options._grow_words(made, KOREAN, start)


def test_morphemes_behind_the_first_have_continuing_pieces_only() -> None:
    pytest.importorskip("mecab")
    tokenizer = WordPiece(vocab_size=160, pretokenize="mecab").train(KOREAN)
    text = Morphemes.of(tokenizer).mark("학교에서 갔다. #漢字와 ##친구는")
    tokens = tokenizer.encode(text).tokens
    assert tokens[:2] == ["학교", "##에서"]
    assert tokens[tokens.index(".") - 1].startswith("##")
    assert tokens.count("#") == tokens.count("[UNK]") == 0 or tokens.count("#") == 3
    assert "친구" in tokens
    assert not any(token.startswith("##") and token[2:3] in "#.漢字" for token in tokens if len(token) > 2)
