"""Columns as examples: which is what, what labels are called, empty texts, scores."""

import unicodedata
from pathlib import Path

import pytest

from reforge.corpora.labelled import Example, TextExample
from reforge.corpora.labelled.tsv import Tsv
from reforge.corpora.tally import Tally
from reforge.spec import Part, UserError, load_source, validate

ROWS = "no\tone\ttwo\tgold\n7\t첫째\t둘째\t1\n8\t셋째\t넷째\t2\n9\t다섯째\t여섯째\t3\n"


def read(tmp_path: Path, rows: str, **options: object) -> list[Example]:
    (tmp_path / "a.tsv").write_text(rows, encoding="utf-8")
    return list(Tsv(path=tmp_path / "a.tsv", **options).read())  # type: ignore[arg-type]


def test_columns_may_have_any_names(tmp_path: Path) -> None:
    assert read(tmp_path, ROWS, text="one", pair="two", label="gold", id="no")[:2] == [
        TextExample("7", "첫째", "둘째", "1"),
        TextExample("8", "셋째", "넷째", "2"),
    ]
    assert read(tmp_path, ROWS, text="two", label=None)[0] == TextExample("a.tsv:2", "둘째", None, None)


def test_columns_by_number(tmp_path: Path) -> None:
    assert read(tmp_path, ROWS, text=3, label=4)[0] == TextExample("a.tsv:2", "둘째", None, "1")
    body = ROWS.partition("\n")[2]
    assert read(tmp_path, body, text=3, label=4, header=False)[0] == TextExample("a.tsv:1", "둘째", None, "1")


def test_classes_are_renamed_merged_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(ROWS, encoding="utf-8")
    tally = Tally()
    table = Tsv(path=tmp_path / "a.tsv", text="one", label="gold", labels={"1": "low", "2": None})
    assert [example.label for example in table.read(tally=tally) if isinstance(example, TextExample)] == ["low", "3"]
    assert tally.dropped == {"label 2 left out": 1}
    merged = read(tmp_path, ROWS, text="one", label="gold", labels={"1": "low", "2": "low"})
    assert [example.label for example in merged if isinstance(example, TextExample)] == ["low", "low", "3"]


class Job(Part):
    data: Tsv


def test_labels_in_yaml(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(ROWS, encoding="utf-8")
    (tmp_path / "job.yaml").write_text(
        f"data: {{kind: tsv, path: {tmp_path}/a.tsv, text: one, label: gold,\n"
        "  labels: {'1': low, '2': null, '3': high}}\n"
    )
    job = validate(Job, load_source(tmp_path / "job.yaml"))
    assert [example.label for example in job.data.read() if isinstance(example, TextExample)] == ["low", "high"]


def test_scores(tmp_path: Path) -> None:
    [example] = read(tmp_path, "text\tlabel\n가\t3.750\n", score=True)
    assert example == TextExample("a.tsv:2", "가", None, 3.75)
    for wrong in ("much", "nan", ""):
        with pytest.raises(UserError, match=rf"a\.tsv:2: must have a number in column 'label', got '{wrong}'"):
            read(tmp_path, f"text\tlabel\n가\t{wrong}\n", score=True)


def test_empty_texts(tmp_path: Path) -> None:
    rows = "text\tpair\tlabel\n가\t\tx\n \t나\tx\n다\t라\tx\n"
    assert [example.key for example in read(tmp_path, rows, pair="pair")] == ["a.tsv:4"]
    kept = read(tmp_path, rows, pair="pair", on_empty="keep")
    assert kept[:2] == [TextExample("a.tsv:2", "가", "", "x"), TextExample("a.tsv:3", "", "나", "x")]
    with pytest.raises(UserError, match=r"a\.tsv:2: the text is empty. Set on_empty to skip or keep to go on"):
        read(tmp_path, rows, pair="pair", on_empty="fail")


def test_an_empty_label_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.tsv:2: must have a class in column 'label', it is empty"):
        read(tmp_path, "text\tlabel\n가\t \n")
    found = read(tmp_path, "text\tlabel\n가\t \n나\tx\n", on_bad_record="skip")
    assert [example.key for example in found] == ["a.tsv:3"]


def test_a_set_to_be_predicted_needs_no_labels(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("text\n가\n", encoding="utf-8")
    (tmp_path / "b.tsv").write_text("text\tlabel\n나\t?\n", encoding="utf-8")
    table = Tsv(path=tmp_path / "a.tsv", id="guid", score=True)
    assert list(table.read(labelled=False)) == [TextExample("a.tsv:2", "가", None, None)]
    assert list(table.read(tmp_path / "b.tsv", labelled=False)) == [TextExample("b.tsv:2", "나", None, None)]
    with pytest.raises(UserError, match=r"a\.tsv: there is no column 'label'\. Columns: text"):
        list(table.read())


def test_texts_are_in_one_normal_form(tmp_path: Path) -> None:
    [example] = read(tmp_path, unicodedata.normalize("NFD", "text\tlabel\n 한글\t긍정\n"))
    assert example == TextExample("a.tsv:2", "한글", None, "긍정")


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"score": True, "labels": {"1": "low"}}, "labels"),
        ({"pair": "text"}, "pair"),
        ({"label": "text"}, "label"),
        ({"header": False, "label": 2}, "text"),
    ],
)
def test_options_that_do_not_go_together(tmp_path: Path, options: dict[str, object], path: str) -> None:
    (tmp_path / "a.tsv").write_text("text\tlabel\n1\t2\n")
    problems = list(Tsv(path=tmp_path / "a.tsv", **options).problems())  # type: ignore[arg-type]
    assert [problem.path for problem in problems] == [(path,)]
