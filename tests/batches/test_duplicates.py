"""Duplicates: what is dropped is a function of the documents and their order, and is what a comparison of all finds."""

import math
import random
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from reforge.batches.duplicates import KeyWriter, dropped_in, find_duplicates, num_partitions
from reforge.batches.sorted_records import RecordWriter, even_slots
from reforge.corpora import Document
from reforge.corpora.cleaning import Cleaning, NearDuplicates

EXACT = Cleaning(duplicates="exact")
NEAR = Cleaning(duplicates="near")
Language = Literal["ko", "en"]
_LETTERS = {"ko": "가나다라마바사아자차카타파하고노도로모보소오조", "en": "aeioubcdfghklmnprstvwy"}


def text(number: int, num_words: int = 200, language: Language = "ko") -> str:
    """Invented words that depend on the number."""
    chosen = random.Random(f"{language} {number}")
    letters, longest = _LETTERS[language], 4 if language == "ko" else 9
    return " ".join("".join(chosen.choices(letters, k=chosen.randint(1, longest))) for _ in range(num_words))


def edited(original: str, places: Sequence[int]) -> str:
    """The text with another word in each of these places."""
    words = original.split()
    for place in places:
        words[place] = f"{words[place]}다른"
    return " ".join(words)


def documents(texts: Sequence[str]) -> list[Document]:
    return [Document(f"a: {number}", text) for number, text in enumerate(texts)]


def dropped(
    folder: Path,
    parts: Sequence[Sequence[Document]],
    cleaning: Cleaning,
    keyed: bool = False,
    partitions: int = 1,
) -> dict[int, str]:
    """What is dropped of all documents, numbered through."""
    keys = [folder / f"keys-{number}" for number in range(len(parts))]
    for path, part in zip(keys, parts, strict=True):
        writer = KeyWriter(path, cleaning, keyed, partitions)
        for number, document in enumerate(part):
            writer.add(number, document)
        writer.close()
    outs = [folder / f"out-{number}" for number in range(partitions)]
    for partition, out in enumerate(outs):
        find_duplicates(keys, partition, cleaning, out)
    starts = np.cumsum([0, *map(len, parts)]).tolist()
    return {
        start + number: reason
        for part, start in enumerate(starts[:-1])
        for number, reason in dropped_in(outs, part).items()
    }


def test_the_first_of_equal_texts_is_kept(tmp_path: Path) -> None:
    parts = [documents(["물", "불", "물"]), [], documents(["바람", "불"]), documents(["흙", "바람", "물 "])]
    found = dropped(tmp_path, parts, EXACT)
    assert found == {2: "exact duplicate", 4: "exact duplicate", 6: "exact duplicate"}


def test_keep_keeps_equal_texts_but_not_equal_keys(tmp_path: Path) -> None:
    parts = [
        [Document("a: 1", "물", "1"), Document("a: 2", "물", "2"), Document("a: 3", "불")],
        [Document("b: 1", "물", "2"), Document("b: 2", "바람"), Document("b: 3", "다른 글", "1")],
    ]
    assert dropped(tmp_path / "keyed", parts, Cleaning(), keyed=True) == {3: "same key", 5: "same key"}
    assert dropped(tmp_path / "not", parts, Cleaning(), keyed=False) == {}


def test_of_several_reasons_the_plainest_is_given(tmp_path: Path) -> None:
    original = text(1)
    parts = [
        [
            Document("a: 1", original, "1"),
            Document("a: 2", original, "1"),
            Document("a: 3", original, "2"),
            Document("a: 4", edited(original, [100]), "3"),
        ]
    ]
    found = dropped(tmp_path, parts, NEAR, keyed=True)
    assert found == {1: "same key", 2: "exact duplicate", 3: "near duplicate"}


@pytest.mark.parametrize("language", ["ko", "en"])
def test_a_long_text_with_an_edited_sentence_is_a_near_duplicate(tmp_path: Path, language: Language) -> None:
    original = text(1, language=language)
    texts = [text(number, language=language) for number in range(20)]
    texts += [edited(original, [50, 51, 52]), original + " " + text(77, 10, language), " \n" + original]
    texts += [edited(original, range(0, 200, 4))]  # no run of five words is left
    assert dropped(tmp_path, [documents(texts)], NEAR) == dict.fromkeys((20, 21, 22), "near duplicate")
    assert dropped(tmp_path / "exact", [documents(texts)], EXACT) == {}


def test_short_texts_are_compared_as_a_whole(tmp_path: Path) -> None:
    texts = ["비가 온다.", "비가 온다", "눈이 온다.", "비가  온다."]
    assert dropped(tmp_path, [documents(texts)], NEAR) == {3: "near duplicate"}


def test_runs_of_single_words_find_sentences_that_hardly_differ(tmp_path: Path) -> None:
    sentence = text(1, 20)
    cleaning = Cleaning(duplicates="near", near=NearDuplicates(shingle_words=1))
    assert dropped(tmp_path, [documents([sentence, edited(sentence, [5])])], cleaning) == {1: "near duplicate"}
    assert dropped(tmp_path / "five", [documents([sentence, edited(sentence, [5])])], NEAR) == {}


def varied(seed: int, originals: int = 25, copies: int = 90) -> list[str]:
    """Originals, and copies of them with 0 to 40 of 150 words changed, in any order."""
    chosen = random.Random(seed)
    texts = [text(number, 150) for number in range(originals)]
    for _ in range(copies):
        source = texts[chosen.randrange(originals)]
        texts.append(edited(source, chosen.sample(range(150), chosen.choice((0, 0, 1, 2, 4, 10, 40)))))
    chosen.shuffle(texts)
    return texts


@pytest.mark.parametrize("cuts", [[], [40], [1, 2, 2, 60, 115], list(range(1, 115, 7))])
@pytest.mark.parametrize("partitions", [1, 7])
def test_neither_parts_nor_partitions_change_what_is_dropped(tmp_path: Path, cuts: list[int], partitions: int) -> None:
    all_documents = documents(varied(1))
    expected = dropped(tmp_path / "one", [all_documents], NEAR)
    assert set(expected.values()) == {"exact duplicate", "near duplicate"}
    parts = [all_documents[start:stop] for start, stop in zip([0, *cuts], [*cuts, None], strict=True)]
    assert dropped(tmp_path / "cut", parts, NEAR, partitions=partitions) == expected


def shingles(content: str) -> set[tuple[str, ...]]:
    words = content.split()
    return {tuple(words[start : start + 5]) for start in range(max(1, len(words) - 4))}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_near_duplicates_are_those_of_a_comparison_of_all_pairs(tmp_path: Path, seed: int) -> None:
    texts = varied(seed)
    sets = [shingles(content) for content in texts]
    alike = np.array([[len(a & b) / len(a | b) for b in sets] for a in sets])
    found = dropped(tmp_path, [documents(texts)], NEAR)
    for number, content in enumerate(texts):
        earlier = alike[number, :number]
        kept = [alike[number, other] for other in range(number) if other not in found]
        assert (found.get(number) == "exact duplicate") == (content in texts[:number])
        if number in found:
            assert earlier.max() >= 0.8 - 0.12, number  # 3.5 standard errors
        else:
            assert max(kept, default=0.0) <= 0.8 + 0.12, number


def test_boilerplate_is_compared_with_few(tmp_path: Path) -> None:
    """3,000 documents that nearly all share a bucket are done at once, and all but a few are found."""
    form = text(1, 120)
    texts = [edited(form, [place % 120]) + f" {place}" for place in range(3000)]
    found = dropped(tmp_path, [documents(texts)], NEAR)
    assert 0 not in found
    assert len(found) > 2990


def test_numbers_are_looked_up_like_a_dictionary(tmp_path: Path) -> None:
    KeyWriter(tmp_path / "keys", EXACT, False, 1).close()
    find_duplicates([tmp_path / "keys"], 0, EXACT, tmp_path / "out")
    nothing = dropped_in([tmp_path / "out"], 0)
    assert (len(nothing), list(nothing), 0 in nothing) == (0, [], False)
    assert dropped_in((), 3) == {}
    writer = KeyWriter(tmp_path / "more", EXACT, False, 1)
    for number, document in enumerate(documents(["물", "불", "물"])):
        writer.add(number, document)
    writer.close()
    find_duplicates([tmp_path / "more"], 0, EXACT, tmp_path / "out")  # what lay there before goes
    found = dropped_in([tmp_path / "out"], 0)
    assert [number in found for number in range(5)] == [False, False, True, False, False]
    assert found[2] == "exact duplicate"
    with pytest.raises(KeyError):
        found[1]


def test_partitions_grow_with_the_corpus() -> None:
    assert num_partitions(0, EXACT) == num_partitions(10_000_000, NEAR) == 1
    assert num_partitions(1 << 40, NEAR) == 1025
    assert num_partitions(1 << 40, EXACT) == 129


@pytest.mark.slow  # millions of keys
def test_memory_does_not_grow_with_the_number_of_keys(tmp_path: Path) -> None:
    """Four million keys in one partition, more than a third of them equal to an earlier one."""
    random_numbers = np.random.default_rng(1)
    folders = [tmp_path / str(part) for part in range(4)]
    for folder in folders:
        folder.mkdir()
        writer = RecordWriter(folder, "text", even_slots(16))
        keys = random_numbers.integers(0, 1 << 22, 1 << 20, dtype=np.uint64) << np.uint64(42)
        writer.add(keys, np.arange(1 << 20, dtype=np.uint32))
        writer.close()
    del keys, writer
    tracemalloc.start()
    find_duplicates(folders, 0, EXACT, tmp_path / "out")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 160 << 20  # all at once would be 225 MiB
    num_dropped = sum(len(dropped_in([tmp_path / "out"], part)) for part in range(4))
    assert num_dropped == pytest.approx((1 << 22) / math.e, rel=0.01)
