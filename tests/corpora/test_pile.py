"""The Pile's records, streamed from Zstandard files."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from pydantic import ValidationError

from reforge.corpora import Corpus, Tally
from reforge.corpora.pile import Pile
from reforge.spec import UserError

RECORDS = [
    {"text": " One. \n", "meta": {"pile_set_name": "Books3"}},
    {"text": "둘", "meta": {"pile_set_name": "Wikipedia (en)"}},
    {"text": "  ", "meta": {"pile_set_name": "Books3"}},
]


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
    texts, tally = read(file, subsets=("Books3",))
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


def test_subsets_with_weights_are_groups(tmp_path: Path) -> None:
    file = write(tmp_path / "00.jsonl.zst", "\n".join(map(json.dumps, RECORDS)))
    weighted = Pile(path=file, subsets={"Books3": 2.0, "Wikipedia (en)": 0.5})
    assert weighted.weights() == {"Books3": 2.0, "Wikipedia (en)": 0.5}
    assert [document.group for document in weighted.documents(Tally())] == ["Books3", "Wikipedia (en)"]
    listed = Pile(path=file, subsets=("Books3", "Wikipedia (en)"))
    assert listed.weights() == {}
    assert [document.group for document in listed.documents(Tally())] == ["", ""]
    assert weighted.identity() != listed.identity()
    heavier = weighted.model_copy(update={"subsets": dict.fromkeys(weighted.weights(), 3.0)})
    assert heavier.identity() == weighted.identity()


def test_parquet_files_hold_the_same(tmp_path: Path, reads_the_same_in_ranges: Callable[[Corpus], None]) -> None:
    pq.write_table(pa.Table.from_pylist(RECORDS), tmp_path / "00.parquet", row_group_size=1)
    texts, tally = read(tmp_path)
    assert texts == ["One.", "둘"]
    assert read(tmp_path, subsets=("Books3",))[0] == ["One."]
    assert tally.dropped == {"empty": 1}
    write(tmp_path / "01.jsonl.zst", "\n".join(map(json.dumps, RECORDS)))
    reads_the_same_in_ranges(Pile(path=tmp_path, subsets={"Books3": 2.0}))


def test_parquet_files_need_no_subsets_where_none_are_asked_for(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["하나"]}), tmp_path / "00.parquet")
    assert read(tmp_path)[0] == ["하나"]
    with pytest.raises(UserError, match="must have a column 'meta', has text"):
        read(tmp_path, subsets=("Books3",))


def test_a_subset_that_does_not_exist_names_the_nearest(tmp_path: Path) -> None:
    own = [{"text": "하나", "meta": {"pile_set_name": "국어사전"}}]
    file = write(tmp_path / "00.jsonl.zst", "\n".join(map(json.dumps, [*own, *RECORDS])))
    assert list(Pile(path=file, subsets=("Books3", "ArXiv", "국어사전")).problems()) == []
    [problem] = Pile(path=file, subsets=("Book3",)).problems()
    assert str(problem) == (
        "subsets[0]: must be one of the Pile's subsets, or a pile_set_name among the first records; "
        "got 'Book3'; did you mean Books3?"
    )
    [problem] = Pile(path=file, subsets={"국어 사전": 1.0}).problems()
    assert (problem.path, problem.nearest) == (("subsets", "국어 사전"), "국어사전")
    [problem] = Pile(path=tmp_path / "nothing", subsets=("Book3",)).problems()
    assert problem.path == ("path",)
    write(file, "no JSON")
    [problem] = Pile(path=file, subsets=("PubMed",)).problems()
    assert problem.nearest == "PubMed Central"


@pytest.mark.parametrize(
    "given", ['{"subsets": []}', '{"subsets": {}}', '{"subsets": {"Books3": 0}}', '{"subsets": {"Books3": -1}}']
)
def test_weights_are_above_zero_and_subsets_are_named(given: str) -> None:
    with pytest.raises(ValidationError):
        Pile.model_validate_json(json.dumps({"path": "x", **json.loads(given)}))


def test_a_record_without_a_subset_is_bad_where_subsets_are_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path / "00.jsonl.zst", '{"text": "a"}\n{"text": "b", "meta": null}\n')
    assert read(file)[0] == ["a", "b"]
    with pytest.raises(UserError, match=r":1: must have a meta\.pile_set_name, which subsets are chosen by"):
        read(file, subsets=("Books3",))
    assert read(file, subsets=("Books3",), on_bad_record="skip")[1].dropped == {"record without meta.pile_set_name": 2}


def test_real_files(shared: Path, reads_the_same_in_ranges: Callable[..., None]) -> None:
    texts, tally = read(shared / "pile" / "val.jsonl.zst", subsets=("Wikipedia (en)",))
    assert (len(texts), tally.dropped) == (1737, {"of another subset": 3})
    reads_the_same_in_ranges(Pile(path=shared / "pile" / "val.jsonl.zst"), times=2)
