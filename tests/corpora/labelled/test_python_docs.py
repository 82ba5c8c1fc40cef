"""The labelled set that every Python brings along."""

import json
from collections import Counter
from pathlib import Path

from reforge.corpora.labelled import TextExample
from reforge.corpora.labelled.python_docs import PythonDocs
from reforge.corpora.tally import Tally


def test_six_classes_of_hundreds_of_texts() -> None:
    tally = Tally()
    examples = [example for example in PythonDocs().read(tally=tally) if isinstance(example, TextExample)]
    counts = Counter(example.label for example in examples)
    assert set(counts) == {"asyncio", "email", "importlib", "logging", "unittest", "xml"}
    assert min(counts.values()) > 100
    assert 1_000 < len(examples) == tally.documents < 3_000
    assert max(counts.values()) < 0.3 * len(examples)  # always saying the largest class is no good guess
    assert len({example.text for example in examples}) == len({example.key for example in examples}) == len(examples)
    assert all(len(example.text) >= 20 and "\n" not in example.text for example in examples)


def test_a_path_is_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("text\tlabel\nSend a mail.\temail\n")
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "Send a mail.", "label": "email"}))
    (tmp_path / "a.csv").write_text('label,text\nemail,"Send a mail."\n')
    for name, line in (("a.tsv", 2), ("a.jsonl", 1), ("a.csv", 2)):
        expected = TextExample(f"{name}:{line}", "Send a mail.", None, "email")
        assert list(PythonDocs().read(tmp_path / name)) == [expected]
        assert list(PythonDocs().read(tmp_path / name, labelled=False)) == [expected._replace(label=None)]
        assert PythonDocs().files(tmp_path / name) == [tmp_path / name]
