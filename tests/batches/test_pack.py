"""What rows hold for every way to pack: the same text, prepared and read back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reforge.batches import Data, PackedSamples, Prepared, prepare
from reforge.batches.packing import CLS, EOD, PAD, SEP
from reforge.corpora.mixture import Mixture, Source
from reforge.corpora.text import Text
from reforge.tokenizers.wordpiece import WordPiece

# Every word is one syllable, and so one token.
TEXTS = [
    "\n".join(" ".join(chr(0xAC00 + 28 * (n % 6)) * (1 + n % 9 + 5 * line)) for line in range(4)) for n in range(60)
]


def run(tmp_path: Path, **options: Any) -> tuple[Prepared, list[str]]:
    file = tmp_path / "text.txt"
    file.write_text("\n\n".join(TEXTS), encoding="utf-8")
    data = Data(
        **{"corpus": Text(path=file, documents_by="blank_line"), "block_tokens": 32, "valid_fraction": 0.2, **options}
    )
    said: list[str] = []
    return prepare(data, WordPiece(vocab_size=200), tmp_path, said.append), said


def rows_of(prepared: Prepared, split: str = "train") -> list[list[int]]:
    samples = getattr(prepared, split)
    return [samples.blocks(np.array([index]))[0].tolist() for index in range(len(samples))]


def text_of(prepared: Prepared, row: list[int]) -> str:
    """What a row of one document says."""
    assert row[0] == CLS
    end = row.index(SEP)
    assert set(row[end + 1 :]) <= {PAD}
    return prepared.tokenizer.decode(row[1:end])


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("separator", ["sep", "eod"])
def test_documents_share_blocks_with_a_separator_behind_each(tmp_path: Path, separator: str) -> None:
    prepared, _ = run(tmp_path, separator=separator)
    assert prepared.tokenizer.token_to_id("[EOD]") == (EOD if separator == "eod" else None)
    rows = rows_of(prepared)
    assert all(len(row) == 32 and row[0] == CLS for row in rows)
    tokens = [token for row in rows for token in row[1:]]
    end, other = (EOD, SEP) if separator == "eod" else (SEP, EOD)
    assert tokens.count(end) == prepared.report["splits"]["train"]["documents"] > 30
    if separator == "eod":
        assert other not in tokens
    documents = " ".join(prepared.tokenizer.id_to_token(token) for token in tokens).split(
        prepared.tokenizer.id_to_token(end)
    )
    assert {flat(text) for text in documents[:-1]} <= {flat(text) for text in TEXTS}


@pytest.mark.parametrize("batches", ["packed", "bucketed"])
def test_within_a_row_is_of_one_document(tmp_path: Path, batches: str) -> None:
    prepared, said = run(tmp_path, pack="within", batches=batches)
    rows = rows_of(prepared)
    assert ({len(row) for row in rows} == {32}) == (batches == "packed")
    found = [text_of(prepared, row) for row in rows]
    assert all(any(text in flat(document) for document in TEXTS) for text in found)
    assert sum(len(text.split()) for text in found) == prepared.report["splits"]["train"]["tokens"]
    assert any("in rows of one length" in line for line in said) == (batches == "packed")
    prepared.train.check(partners=True)


@pytest.mark.parametrize("batches", ["packed", "bucketed"])
def test_a_line_has_a_row_of_its_own(tmp_path: Path, batches: str) -> None:
    prepared, _ = run(tmp_path, pack="lines", batches=batches)
    lines = [flat(line) for text in TEXTS for line in text.split("\n")]
    found = [text_of(prepared, row) for split in ("train", "valid") for row in rows_of(prepared, split)]
    assert sorted(found) == sorted(lines)


def test_pairs_are_read_from_the_files_of_within(tmp_path: Path) -> None:
    within, _ = run(tmp_path, pack="within")
    pairs, said = run(tmp_path, pack="pairs")
    assert pairs.folder == within.folder
    assert any("reused" in line for line in said)
    assert pairs.folder != run(tmp_path, pack="lines")[0].folder


@pytest.mark.parametrize("pack", ["documents", "within"])
def test_sources_come_as_often_as_they_weigh_in_training_only(tmp_path: Path, pack: str) -> None:
    for name, texts in (("often", TEXTS[:20]), ("seldom", TEXTS[20:])):
        (tmp_path / f"{name}.txt").write_text("\n\n".join(f"{text}\n{name[0]}" for text in texts), encoding="utf-8")
    sources = {
        name: Source(corpus=Text(path=tmp_path / f"{name}.txt", documents_by="blank_line"), weight=weight)
        for name, weight in (("often", 2.0), ("seldom", 0.5))
    }
    prepared, said = run(tmp_path, corpus=Mixture(sources=sources), pack=pack)
    assert any(line.startswith("set often: ") for line in said)
    assert isinstance(prepared.train, PackedSamples)
    often, seldom = (len(one.shards) for one in prepared.train.sets)
    num_blocks = 2 * often + round(0.5 * seldom)
    rows = [prepared.train.rows_at(1, step, 32 * num_blocks) for step in range(4)]
    for two_epochs in (rows[:2], rows[2:]):
        counts = np.bincount(np.concatenate([each.samples for each in two_epochs]))
        assert counts.tolist()[:often] == [4] * often
        assert sum(counts[often:]) == 2 * round(0.5 * seldom)
        assert max(counts[often:]) <= 2
    assert isinstance(prepared.valid, PackedSamples)
    assert {one.weight for one in prepared.valid.sets} == {1.0}
    assert sum(one.weight == 2.0 for one in prepared.train.sets) == 1
    if pack == "within":
        prepared.train.check(partners=True)
