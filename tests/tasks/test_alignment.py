"""Units and tokens: every unit keeps its tag where it has a piece of its own, and gets one where it has none."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from reforge.corpora.labelled import TaggedExample
from reforge.corpora.labelled.conll import Conll
from reforge.corpora.labelled.klue_ner import KlueNer
from reforge.tasks.alignment import NOWHERE, Alignment, unit_tags
from reforge.tokenizers import TOKENIZERS
from reforge.tokenizers.offsets import OffsetEncoder, Pieces
from reforge.tokenizers.unit_pieces import UnitEncoder

REAL = Path(__file__).parents[2] / ".." / "shared" / "data"


def example(text: str, units: Sequence[tuple[int, int]], tags: Sequence[str] | None = None) -> TaggedExample:
    return TaggedExample("here:1", text, tuple(units), None if tags is None else tuple(tags))


def characters(text: str, tags: str) -> TaggedExample:
    """Tags as letters: B and I of the one type X, O."""
    names = {"B": "B-X", "I": "I-X", "O": "O"}
    return example(text, [(place, place + 1) for place in range(len(text))], [names[tag] for tag in tags])


def pieces(*spans: tuple[int, int]) -> Pieces:
    edges = np.array(spans, dtype=np.int64).reshape(-1, 2)
    return Pieces(np.arange(len(edges), dtype=np.uint32), edges[:, 0], edges[:, 1])


def there_and_back(given: TaggedExample, found: Pieces) -> tuple[str, ...]:
    aligned = Alignment.of(given, found)
    assert given.tags is not None
    return unit_tags(aligned.positions, aligned.position_tags(given.tags))


def test_a_word_is_tagged_at_its_first_piece() -> None:
    given = example("김철수가 왔다", [(0, 4), (5, 7)])
    aligned = Alignment.of(given, pieces((0, 2), (2, 4), (5, 7)))
    assert aligned.pieces.tolist() == [0, 2]
    assert aligned.positions == (0, 1)


def test_characters_of_one_piece_share_its_position() -> None:
    given = characters("박씨 왔다", "BOOOO")
    aligned = Alignment.of(given, pieces((0, 2), (3, 5)))
    assert aligned.positions == (0, 0, NOWHERE, 1, 1)
    assert aligned.position_tags(given.tags or ()) == ["B-X", "O"]
    assert there_and_back(given, pieces((0, 2), (3, 5))) == ("B-X", "I-X", "O", "O", "O")


def test_a_piece_that_ends_within_a_character_leaves_it_the_next_one() -> None:
    assert Alignment.of(characters("학교", "BI"), pieces((0, 2), (1, 2))).positions == (0, 1)


def test_what_has_no_piece_goes_on_with_an_entity_around_it() -> None:
    found = pieces((0, 1), (2, 3), (4, 5))
    assert there_and_back(characters("a b c", "BIIOO"), found) == ("B-X", "I-X", "I-X", "O", "O")
    assert there_and_back(characters("a b c", "BOBOO"), found) == ("B-X", "O", "B-X", "O", "O")


def test_an_entity_that_loses_its_begin_begins_with_what_is_left() -> None:
    given = example("\u200b b", [(0, 1), (2, 3)], ["B-X", "I-X"])
    assert there_and_back(given, pieces((2, 3))) == ("O", "B-X")


def test_nothing_to_align() -> None:
    assert there_and_back(example("", [], []), pieces()) == ()
    assert there_and_back(example("\u200b", [(0, 1)], ["B-X"]), pieces()) == ("O",)


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram", "byte_bpe"])
def test_pieces_cut_at_units_keep_every_boundary(kind: str) -> None:
    texts = ["학교에서 친구를 만났다. 친구와 학교에 갔다!", "Friends go to school, 漢字 123"] * 5
    made = TOKENIZERS[kind](vocab_size=90 if kind == "unigram" else 300).train(texts)
    given = [characters(text, ("BO" * len(text))[: len(text)]) for text in [*texts[:2], "뷁쉙 학교에", "a [MASK]"]]
    for one, found in zip(
        given, UnitEncoder(made).encode([g.text for g in given], [g.units for g in given]), strict=True
    ):
        shown = there_and_back(one, found)
        inked = [place for place, char in enumerate(one.text) if char != " "]
        assert [shown[place] for place in inked] == [(one.tags or ())[place] for place in inked]
        assert found.starts.tolist() == sorted(found.starts)
        assert found.ends.tolist() == sorted(found.ends)


def test_characters_within_a_word_have_the_pieces_of_words() -> None:
    made = TOKENIZERS["wordpiece"](vocab_size=300).train(["학교에서 친구를 만났다"] * 5)
    [found] = UnitEncoder(made).encode(["학교에서 친구"], [[(place, place + 1) for place in range(7)]])
    assert [made.id_to_token(int(i)) for i in found.ids] == ["학", "##교", "##에", "##서", "친", "##구"]
    [whole] = UnitEncoder(made).encode(["학교에서 친구"], [[(0, 4), (5, 7)]])
    [plain] = OffsetEncoder(made).encode(["학교에서 친구"])
    assert whole.ids.tolist() == plain.ids.tolist()


@pytest.mark.parametrize(
    ("reader", "name"), [(KlueNer, "klue/klue-ner-v1.1_dev.tsv"), (Conll, "wnut17/wnut17train.conll")]
)
def test_real_sets_come_back_whole(reader: type[KlueNer] | type[Conll], name: str, tmp_path: Path) -> None:
    if not (REAL / name).exists():
        pytest.skip(f"no real data at {REAL / name}")
    lines = (REAL / name).read_text(encoding="utf-8")[:100_000].split("\n")
    last = max(number for number, line in enumerate(lines) if not line.strip())
    (tmp_path / "head.tsv").write_text("\n".join(lines[:last]) + "\n", encoding="utf-8")
    given = list(reader(path=tmp_path / "head.tsv").read())
    made = TOKENIZERS["wordpiece"](vocab_size=3000, limit_alphabet=900).train([one.text for one in given])
    by_unit = UnitEncoder(made).encode([one.text for one in given], [one.units for one in given])
    assert sum(there_and_back(one, found) != one.tags for one, found in zip(given, by_unit, strict=True)) == 0
    if reader is Conll:
        by_word = OffsetEncoder(made).encode([one.text for one in given])
        assert all(there_and_back(one, found) == one.tags for one, found in zip(given, by_word, strict=True))
