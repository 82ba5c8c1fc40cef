"""One training at the largest size serves the smaller ones: the same bytes as training anew, on real Korean text."""

from pathlib import Path

import pytest

from reforge.spec import UserError
from reforge.tokenizers import EOD, SPECIAL_TOKENS, TOKENIZERS

REAL = Path(__file__).parents[2] / ".." / "shared" / "data" / "kowiki" / "title_body" / "kowiki_title_body.txt"
NUM_CHARS = 50_000
LIMITS = {"wordpiece": {"limit_alphabet": 500}, "bpe": {"limit_alphabet": 700}}
SHRINKING = [kind for kind, part in TOKENIZERS.items() if part.shrinks]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    if not REAL.exists():
        pytest.skip(f"no real data at {REAL}")
    with REAL.open(encoding="utf-8") as file:
        return file.read(NUM_CHARS).split("\n\n")


@pytest.mark.parametrize("kind", SHRINKING)
def test_a_smaller_size_is_the_same_as_training_at_it(kind: str, texts: list[str]) -> None:
    special = (*SPECIAL_TOKENS, EOD)
    options = LIMITS.get(kind, {})
    largest = TOKENIZERS[kind](vocab_size=2000, **options)
    trained = largest.train(texts, special)
    for size in (1300, 1999):
        anew = TOKENIZERS[kind](vocab_size=size, **options).train(texts, special)
        assert largest.shrink(trained, size).to_str() == anew.to_str()
        assert anew.get_vocab_size() == min(size, trained.get_vocab_size())


def test_a_size_below_the_alphabet_is_refused_as_in_training() -> None:
    texts = ["학교에서 친구를 만났다", "The library opens at nine"] * 3
    for kind in ("wordpiece", "bpe", "byte_bpe"):
        trained = TOKENIZERS[kind](vocab_size=1500).train(texts)
        with pytest.raises(UserError) as of_shrinking:
            TOKENIZERS[kind]().shrink(trained, 20)
        with pytest.raises(UserError) as of_training:
            TOKENIZERS[kind](vocab_size=20).train(texts)
        needed = [
            str(error.value).partition("vocab_size above ")[2].split(",")[0] for error in (of_shrinking, of_training)
        ]
        assert needed[0] == needed[1]
        assert TOKENIZERS[kind]().shrink(trained, int(needed[0]) + 1).get_vocab_size() == int(needed[0]) + 1


def test_a_unigram_model_does_not_shrink() -> None:
    assert not TOKENIZERS["unigram"].shrinks
