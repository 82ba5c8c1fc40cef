"""Rows of data sets that `datasets` loads as labelled texts."""

import json
from pathlib import Path

import datasets
import pytest

from reforge.corpora.labelled import TextExample
from reforge.corpora.labelled.huggingface import Huggingface
from reforge.corpora.tally import Tally
from reforge.spec import UserError


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    columns = {"title": ["가", "나", "다"], "topic": [1, 0, -1], "guid": ["g1", "g2", "g3"]}
    names = datasets.ClassLabel(names=["sports", "science"])
    features = datasets.Features({"title": datasets.Value("string"), "topic": names, "guid": datasets.Value("string")})
    rows = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict({"train": rows, "test": rows.select([1])}).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def options(dataset: Path, **changed: object) -> Huggingface:
    return Huggingface(dataset=str(dataset), **{"text": "title", "label": "topic", **changed})  # type: ignore[arg-type]


def test_classes_are_called_by_their_names(saved: Path) -> None:
    with pytest.raises(UserError, match=r"saved: row 3: must have a class in column 'topic', it is empty"):
        list(options(saved).read())
    tally = Tally()
    assert list(options(saved, on_bad_record="skip").read(tally=tally)) == [
        TextExample("saved: row 1", "가", None, "science"),
        TextExample("saved: row 2", "나", None, "sports"),
    ]
    assert tally.dropped == {"record without a label": 1}
    renamed = options(saved, split="test", id="guid", labels={"sports": "sport"}).read()
    assert list(renamed) == [TextExample("g2", "나", None, "sport")]
    assert len(list(options(saved).read(labelled=False))) == 3


def test_other_data_of_the_same_columns(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"title": "라", "topic": "science"}))
    assert list(options(saved).read(tmp_path / "a.jsonl")) == [TextExample("a.jsonl:1", "라", None, "science")]
    assert options(saved).files(tmp_path / "a.jsonl") == [tmp_path / "a.jsonl"]
    [example] = options("nowhere", split="test").read(saved)
    assert example.key == "saved: row 1"


def test_what_cannot_be_read_is_said_early(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    [problem] = options(saved, label="topics").problems()
    assert "has no column 'topics', it has title, topic, guid; did you mean topic?" in problem.rule
    [problem] = options(saved, split="tset").problems()
    assert "did you mean test?" in problem.rule
    [problem] = options("nobody/nothing").problems()
    assert problem.rule.startswith("the data set 'nobody/nothing' cannot be loaded: ")
    assert list(options(saved).problems()) == []
    assert str(tmp_path) not in json.dumps(options(saved).identity())
