"""Data sets that `datasets` loads from a directory, and what is said about those that it can't load."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from reforge.corpora import Corpus, Document, Slice, Tally
from reforge.corpora.huggingface import Huggingface
from reforge.spec import UserError

ROWS = [{"id": number, "text": f"글 {number}", "meta": {"note": f"주석 {number}"}} for number in range(300)]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    rows = datasets.Dataset.from_list(ROWS)
    rows.save_to_disk(str(folder / "one"))
    datasets.DatasetDict({"train": rows, "test": rows.select(range(5))}).save_to_disk(str(folder / "splits"))
    (folder / "files").mkdir()
    (folder / "files" / "train.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS))
    (folder / "files" / "test.jsonl").write_text('{"id": 1, "text": "검사", "meta": {"note": "끝"}}\n')
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


def read(folder: Path, **options: object) -> list[Document]:
    return list(Huggingface(dataset=str(folder), **options).documents(Tally()))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["one", "splits", "files"])
def test_what_is_in_a_directory(saved: Path, name: str) -> None:
    documents = read(saved / name)
    assert len(documents) == 300
    assert documents[299] == Document(f"{name}: row 300", "글 299")
    assert read(saved / name, column=("meta.note", "text"))[1].text == "주석 1\n글 1"
    assert list(Huggingface(dataset=str(saved / name)).problems()) == []
    if name != "one":
        assert len(read(saved / name, split="test")) in (1, 5)


def test_a_part_of_a_split(saved: Path) -> None:
    assert len(read(saved / "files", split="train[:10%]")) == 30
    assert len(read(saved / "splits", split="train[:10%]")) == 30
    assert len(read(saved / "one", split="train[290:]")) == 10
    assert len(read(saved / "splits", split="test+train[:5]")) == 10


def test_rows_in_ranges(saved: Path, reads_the_same_in_ranges: Callable[[Corpus], None]) -> None:
    corpus = Huggingface(dataset=str(saved / "one"))
    [whole] = corpus.whole()
    assert whole == Slice("one")
    assert corpus.extent(whole).num_rows == 300
    assert 3_000 < corpus.extent(whole).num_bytes < 30_000
    reads_the_same_in_ranges(corpus)


def test_the_identity_is_that_of_the_content(saved: Path, tmp_path: Path) -> None:
    corpus = Huggingface(dataset=str(saved / "splits"))
    shutil.copytree(saved / "splits", tmp_path / "elsewhere" / "splits")
    moved = Huggingface(dataset=str(tmp_path / "elsewhere" / "splits"))
    assert moved.identity() == corpus.identity()
    assert moved.file_names() == corpus.file_names()
    assert [file.read_bytes() for file in moved.files()] == [file.read_bytes() for file in corpus.files()]
    assert str(saved) not in json.dumps(corpus.identity())


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("splits", {"split": "tset"}, "has no split 'tset', it has train, test; did you mean test?"),
        ("files", {"split": "valid"}, "has no split 'valid', it has train, test"),
        ("one", {"column": "txt"}, "has no column 'txt', it has id, text, meta; did you mean text?"),
        ("files", {"column": "mata.note"}, "has no column 'mata.note', it has id, text, meta; did you mean meta?"),
    ],
)
def test_a_wrong_name_is_said_early_with_the_nearest(
    saved: Path, name: str, options: dict[str, object], says: str
) -> None:
    [problem] = Huggingface(dataset=str(saved / name), **options).problems()  # type: ignore[arg-type]
    assert problem.rule.endswith(says) or says in problem.rule
    assert "\n" not in problem.rule


def test_rows_without_text_are_said_or_counted(tmp_path: Path) -> None:
    datasets.Dataset.from_list([{"text": "하나"}, {"text": None}, {"text": " "}]).save_to_disk(str(tmp_path / "a"))
    tally = Tally()
    assert [document.text for document in Huggingface(dataset=str(tmp_path / "a")).documents(tally)] == ["하나"]
    assert tally.dropped == {"empty": 2}
    datasets.Dataset.from_list([{"text": 1}]).save_to_disk(str(tmp_path / "b"))
    with pytest.raises(UserError, match=r"b: row 1: must have a text 'text', it is of type int"):
        read(tmp_path / "b")
    tally = Tally()
    assert list(Huggingface(dataset=str(tmp_path / "b"), on_bad_record="skip").documents(tally)) == []
    assert tally.dropped == {"record without a text 'text'": 1}


def test_a_data_set_that_cannot_be_loaded_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    [problem] = Huggingface(dataset="nobody/nothing").problems()
    assert problem.path == ("dataset",)
    assert problem.rule.startswith("the data set 'nobody/nothing' cannot be loaded: ")
    assert "\n" not in problem.rule
    (tmp_path / "empty").mkdir()
    [problem] = Huggingface(dataset=str(tmp_path / "empty")).problems()
    assert "cannot be loaded: " in problem.rule
    problems = list(Huggingface(dataset=str(tmp_path / "empty"), revision="main").problems())
    assert [problem.path for problem in problems] == [("revision",), ("dataset",)]
