"""The sample that tokenizers are trained on: bounded, by content alone, and the same in parts as in one go."""

import pytest

from reforge.tokenizers.sample import pieces, sample

TEXTS = [f"문서 {number} " + "가나다라 " * (number % 40) for number in range(2000)]
TOTAL = sum(len(text.encode()) for text in TEXTS)


def test_the_sample_is_bounded_and_depends_on_the_texts_alone() -> None:
    assert sample(TEXTS, TOTAL) == TEXTS
    kept = sample(TEXTS, TOTAL // 3)
    assert TOTAL // 10 < sum(len(text.encode()) for text in kept) <= TOTAL // 3
    assert sorted(sample(reversed(TEXTS), TOTAL // 3)) == sorted(kept)


@pytest.mark.parametrize("share", [1, 2, 3, 7, 50, 10_000])
@pytest.mark.parametrize("num_parts", [1, 2, 5])
def test_the_sample_of_the_parts_samples_is_the_sample_of_the_whole(share: int, num_parts: int) -> None:
    whole = sample(TEXTS, TOTAL // share)
    parts = [sample(TEXTS[part::num_parts], TOTAL // share) for part in range(num_parts)]
    merged = sample((text for part in parts for text in part), TOTAL // share)
    assert sorted(merged) == sorted(whole)
    assert sample(whole, TOTAL // share) == whole


def test_a_part_may_keep_less_from_the_start() -> None:
    whole = sample(TEXTS, TOTAL // 6)
    parts = [sample(TEXTS[part::4], TOTAL // 6, limit=1 << 62) for part in range(4)]
    assert sum(map(len, parts)) < len(TEXTS) // 3
    assert sorted(sample((text for part in parts for text in part), TOTAL // 6)) == sorted(whole)


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
