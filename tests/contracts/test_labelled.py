"""What every labelled set promises, and that the guide shows each of them."""

import json
import pickle
import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import TypeAdapter

from reforge.corpora.labelled import LABELLED, AnyLabelled, Gives, LabelledFiles, LabelledOptions
from reforge.spec import Part, load_source

GUIDE = Path(__file__).parents[2] / "docs" / "finetuning-data.md"
IN_FILES = sorted(kind for kind, labelled in LABELLED.items() if issubclass(labelled, LabelledFiles))


class Data(Part):
    train: AnyLabelled


def snippets() -> list[str]:
    return re.findall(r"^train: \{.*", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)


def options_of(snippet: str, folder: Path) -> LabelledOptions:
    (folder / "data.yaml").write_text(snippet, encoding="utf-8")
    source = load_source(folder / "data.yaml")
    assert not source.problems
    return Data.model_validate_json(json.dumps(source.data), strict=True).train


def test_the_guide_shows_every_kind(tmp_path: Path) -> None:
    shown = {options_of(snippet, tmp_path).kind for snippet in snippets()}
    assert shown == set(LABELLED)


@pytest.mark.parametrize("snippet", snippets())
def test_options_travel_and_say_what_they_give(snippet: str, tmp_path: Path) -> None:
    options = options_of(snippet, tmp_path)
    assert pickle.loads(pickle.dumps(options)) == options
    assert TypeAdapter(AnyLabelled).validate_json(options.model_dump_json()) == options
    assert options.gives in get_args(Gives)


@pytest.mark.parametrize("kind", IN_FILES)
def test_a_file_that_is_missing_or_empty_is_a_problem_of_its_path(kind: str, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    for name, says in (("nowhere.txt", "does not exist"), ("empty.txt", "holds no example")):
        options = LABELLED[kind](path=tmp_path / name)  # type: ignore[call-arg]
        [problem] = options.problems()
        assert problem.path == ("path",)
        assert name in problem.rule
        assert says in problem.rule or kind == "parquet"  # which knows that an empty file is no whole one
        assert str(tmp_path) not in json.dumps(options.identity())
