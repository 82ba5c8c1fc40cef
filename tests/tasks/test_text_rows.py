"""Rows of texts and pairs: the frame, what is cut, and what no row can be made of."""

import numpy as np
import pytest
from tokenizers import Tokenizer

from reforge.corpora.labelled import TextExample
from reforge.spec import UserError
from reforge.tasks.text_rows import TextRows as Rows
from reforge.tasks.text_rows import Truncate, cut, longest_first
from reforge.tokenizers import SPECIAL_TOKENS

CLS, SEP, MASK = (SPECIAL_TOKENS.index(name) for name in ("[CLS]", "[SEP]", "[MASK]"))


def example(text: str, pair: str | None = None) -> TextExample:
    return TextExample("set.tsv:2", text, pair, None)


def words(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def test_a_text_and_a_pair_in_their_frames(tokenizer: Tokenizer) -> None:
    soup, tea = words(tokenizer, "the soup was warm"), words(tokenizer, "the tea")
    [row] = Rows(tokenizer, 32, pairs=False).of([example("the soup was warm")])
    assert row.ids.tolist() == [CLS, *soup, SEP]
    assert row.segments is None
    [row] = Rows(tokenizer, 32, pairs=True).of([example("the soup was warm", "the tea")])
    assert row.ids.tolist() == [CLS, *soup, SEP, *tea, SEP]
    assert row.segments is not None
    assert row.segments.tolist() == [0] * (len(soup) + 2) + [1] * (len(tea) + 1)


def test_an_empty_text_is_an_empty_frame(tokenizer: Tokenizer) -> None:
    [row] = Rows(tokenizer, 32, pairs=False).of([example("")])
    assert row.ids.tolist() == [CLS, SEP]
    [row] = Rows(tokenizer, 32, pairs=True).of([example("", "")])
    assert row.ids.tolist() == [CLS, SEP, SEP]


def test_special_tokens_in_a_text_are_text(tokenizer: Tokenizer) -> None:
    [row] = Rows(tokenizer, 64, pairs=False).of([example("the [MASK] [SEP] [PAD] soup")])
    assert (row.ids == SEP).sum() == 1
    assert MASK not in row.ids
    assert 0 not in row.ids


def test_a_very_long_text_is_cut_to_the_block_and_counted(tokenizer: Tokenizer) -> None:
    rows = Rows(tokenizer, 32, pairs=False)
    long = "the soup was warm " * 5556
    assert len(long) > 100_000
    found = list(rows.of([example(long), example("x" * 100_000), example("the soup")]))
    assert len(found[0].ids) == 32
    assert len(found[1].ids) <= 32
    assert rows.notes() == [f"{rows.num_cut} of 3 texts did not fit in 32 tokens and lost their end"]
    assert rows.num_cut >= 1
    assert Rows(tokenizer, 32, pairs=True).notes() == []


@pytest.mark.parametrize(
    ("truncate", "left"), [("end", [0, 1, 2, 3, 4]), ("start", [5, 6, 7, 8, 9]), ("middle", [0, 1, 2, 8, 9])]
)
def test_what_a_long_text_loses(truncate: Truncate, left: list[int]) -> None:
    assert cut(np.arange(10), 5, truncate).tolist() == left
    assert cut(np.arange(5), 5, truncate).tolist() == [0, 1, 2, 3, 4]
    assert cut(np.arange(10), 1, truncate).tolist() == [9 if truncate == "start" else 0]


def test_a_pair_loses_token_by_token_of_its_longer_text() -> None:
    for first in range(12):
        for second in range(12):
            for room in range(1, 16):
                a, b = first, second
                while a + b > room:
                    a, b = (a - 1, b) if a > b else (a, b - 1)
                assert longest_first(first, second, room) == (a, b)


def test_many_texts_come_in_their_order_with_what_belongs_to_them(tokenizer: Tokenizer) -> None:
    examples = [example(f"the soup {number}") for number in range(2050)]
    found = list(Rows(tokenizer, 32, pairs=False).of(examples, [{"n": np.array(n)} for n in range(2050)]))
    assert [row.example for row in found] == list(range(2050))
    assert [int(row.extras["n"]) for row in found] == list(range(2050))
    assert found[2049].ids.tolist() == [CLS, *words(tokenizer, "the soup 2049"), SEP]


def test_one_text_for_a_pair_and_a_pair_for_one_text_are_said(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=r"set.tsv:2: this task takes pairs of texts, and here is one text"):
        list(Rows(tokenizer, 32, pairs=True).of([example("the soup")]))
    with pytest.raises(
        UserError, match=r"set.tsv:2: this task takes single texts, and here is a pair: take task.kind: pair"
    ):
        list(Rows(tokenizer, 32, pairs=False).of([example("the soup", "the tea")]))
