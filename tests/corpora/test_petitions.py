"""Petitions as Korpora has them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from reforge.corpora import Corpus, Tally
from reforge.corpora.petitions import Petitions
from reforge.spec import UserError

ROWS = [
    {"category": "환경", "content": "강을 맑게 해 주세요.\n부탁합니다. ", "num_agree": 3, "title": "맑은  강"},
    {"category": "환경", "content": " ", "num_agree": 0, "title": "빈 글"},
    {"category": "환경", "content": "짧다", "num_agree": 0, "title": ""},
]


def read(path: Path, **options: object) -> tuple[list[str], Tally]:
    tally = Tally()
    return [document.text for document in Petitions(path=path, **options).documents(tally)], tally  # type: ignore[arg-type]


def write(file: Path, rows: list[dict[str, object]]) -> Path:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return file


def test_title_and_content(tmp_path: Path) -> None:
    file = write(tmp_path / "petitions_2017-08", ROWS)
    texts, tally = read(file)
    assert texts == ["맑은 강\n강을 맑게 해 주세요.\n부탁합니다.", "짧다"]
    assert tally.dropped == {"empty": 1}
    texts, tally = read(file, with_title=False, min_chars=5)
    assert texts == ["강을 맑게 해 주세요.\n부탁합니다."]
    assert tally.dropped == {"empty": 1, "content shorter than 5 characters": 1}


def test_a_record_of_something_else_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "petitions_2017-08", [*ROWS, {"title": "제목"}])
    with pytest.raises(UserError, match=r"petitions_2017-08:4: must have a text 'content', has columns title"):
        read(file)


def test_ranges(tmp_path: Path, reads_the_same_in_ranges: Callable[[Corpus, int], None]) -> None:
    write(tmp_path / "petitions_2017-08", ROWS * 3)
    reads_the_same_in_ranges(Petitions(path=tmp_path), 20)


def test_real_files(shared: Path) -> None:
    texts, tally = read(shared / "petitions")
    assert len(texts) == 1300
    assert tally.dropped == {"empty": 1}
