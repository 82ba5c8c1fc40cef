"""WordPiece: the same from the same text, Korean left whole, and a clear word about vocabularies that can't work."""

import os
import subprocess
import sys
import unicodedata

import pytest
from tokenizers import Tokenizer

from reforge.spec import UserError
from reforge.tokenizers import SPECIAL_TOKENS
from reforge.tokenizers.sample import pieces, sample
from reforge.tokenizers.wordpiece import WordPiece

KOREAN = [
    "학교에 갔다. 학교에서 친구를 만났다. 친구와 학교 앞에서 놀았다.",
    "나는 학교에 가는 친구를 좋아한다. 漢字와 English, café, 123도 있다.",
] * 5
TRAIN = """
import sys
from pydoc_data.topics import topics
from reforge.tokenizers.wordpiece import WordPiece
texts = [topics[name] for name in sorted(topics, reverse=sys.argv[1] == "reversed")]
sys.stdout.write(WordPiece(vocab_size=3000, limit_alphabet=60).train(texts).to_str())
"""


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return WordPiece(vocab_size=120).train(KOREAN)


def test_training_gives_the_same_bytes_in_every_process() -> None:
    outputs = set()
    for order, threads, hash_seed in (("sorted", "1", "1"), ("sorted", "2", "2"), ("reversed", "2", "3")):
        env = {**os.environ, "RAYON_NUM_THREADS": threads, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run([sys.executable, "-c", TRAIN, order], env=env, capture_output=True, check=True)
        outputs.add(done.stdout)
    assert len(outputs) == 1
    assert Tokenizer.from_str(outputs.pop().decode()).get_vocab_size() == 3000


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


def test_the_sample_is_bounded_and_depends_on_the_texts_alone() -> None:
    texts = [f"문서 {number} " + "가나다라 " * (number % 40) for number in range(2000)]
    total = sum(len(text.encode()) for text in texts)
    assert sample(texts, total) == texts
    kept = sample(texts, total // 3)
    assert total // 10 < sum(len(text.encode()) for text in kept) <= total // 3
    assert sorted(sample(reversed(texts), total // 3)) == sorted(kept)


@pytest.mark.parametrize(
    "text", ["", "짧다", "가" * 1000, "가나다 라마\n바사 " * 100, "가나다라마바사아자차" * 30 + "\n"]
)
def test_pieces_join_to_the_text(text: str) -> None:
    parts = list(pieces(text, max_chars=40))
    assert "".join(parts) == text
    assert max(map(len, parts)) <= 40


def test_pieces_end_where_words_do() -> None:
    words = "낱말 " * 1000
    assert all(part.endswith(" ") for part in pieces(words, max_chars=50))
