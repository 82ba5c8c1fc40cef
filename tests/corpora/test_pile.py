"""The Pile's records, streamed from Zstandard files."""

import json
from pathlib import Path

import pytest
import zstandard

from reforge.corpora import Tally
from reforge.corpora.pile import Pile
from reforge.spec import UserError

RECORDS = [
    {"text": " One. \n", "meta": {"pile_set_name": "Books"}},
    {"text": "둘", "meta": {"pile_set_name": "Wikipedia (en)"}},
    {"text": "  ", "meta": {"pile_set_name": "Books"}},
]
SHARED = Path(__file__).parents[3] / "shared" / "data" / "pile"


def write(file: Path, text: str, cut: int | None = None) -> Path:
    file.write_bytes(zstandard.compress(text.encode())[:cut])
    return file


def read(path: Path, **options: object) -> tuple[list[str], Tally]:
    tally = Tally()
    return [d.text for d in Pile(path=path, **options).documents(tally)], tally  # type: ignore[arg-type]


def test_texts_come_out_clean_and_counted(tmp_path: Path) -> None:
    file = write(tmp_path / "00.jsonl.zst", "\n".join(map(json.dumps, RECORDS)))
    texts, tally = read(file)
    assert texts == ["One.", "둘"]
    assert tally.dropped == {"empty": 1}
    texts, tally = read(file, subsets=("Books",))
    assert texts == ["One."]
    assert tally.dropped == {"of another subset": 1, "empty": 1}


@pytest.mark.parametrize(
    ("text", "cut", "message"),
    [
        ('{"text": "a"}\nnothing', None, r"00\.jsonl\.zst:2: no JSON"),
        ('{"body": "a"}', None, ":1: must have a text 'text', has columns body"),
        ("[1]", None, r":1: must be a JSON object, got list"),
        ('{"text": "a"}', 4, "it ends in the middle"),
    ],
)
def test_what_is_broken_is_named_with_its_line(tmp_path: Path, text: str, cut: int | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(write(tmp_path / "00.jsonl.zst", text, cut))


def test_several_frames_are_read(tmp_path: Path) -> None:
    lines = [json.dumps(record) + "\n" for record in RECORDS]
    (tmp_path / "00.jsonl.zst").write_bytes(b"".join(zstandard.compress(line.encode()) for line in lines))
    assert read(tmp_path)[0] == ["One.", "둘"]


def test_a_file_that_is_not_zstandard_is_named(tmp_path: Path) -> None:
    (tmp_path / "00.jsonl.zst").write_text("plain text")
    with pytest.raises(UserError, match=r"00\.jsonl\.zst is no whole \.zst file"):
        read(tmp_path)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/pile")
def test_real_files() -> None:
    texts, tally = read(SHARED)
    assert tally.files == 2
    assert tally.documents == len(texts) > 100
