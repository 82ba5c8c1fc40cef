"""What people type as examples: fields, units, requests."""

from pathlib import Path
from typing import Any

import pytest

from reforge.corpora.labelled import LABELLED, QuestionExample, TaggedExample, TextExample
from reforge.runs.raw_examples import PAIR, RawForm, units_of
from reforge.spec import UserError

HERE = Path("x")
NSMC = LABELLED["nsmc"](kind="nsmc", path=HERE)
TEXT = RawForm("texts", ("text",), NSMC)
PAIRS = RawForm("texts", PAIR, NSMC)
QUESTIONS = RawForm("questions", ("question", "context"), NSMC)
TAGS = RawForm("tags", ("text",), LABELLED["conll"](kind="conll", path=HERE))


def cut(text: str, kind: str, **options: Any) -> list[str]:
    return [text[start:end] for start, end in units_of(text, LABELLED[kind](kind=kind, path=HERE, **options))]


def test_units_are_those_of_the_set_that_the_run_was_trained_on() -> None:
    assert cut("서울에  갔다.", "conll") == ["서울에", "갔다", "."]
    assert cut("서울에  갔다.", "json_spans", units="words") == ["서울에", "갔다", "."]
    assert cut("서울에  갔다.", "naver_ner") == ["서울에", "갔다."]
    assert cut("에 가.", "klue_ner") == ["에", " ", "가", "."] == cut("에 가.", "json_spans")
    assert cut("a a a", "naver_ner") == ["a", "a", "a"]
    assert units_of("a a a", LABELLED["naver_ner"](kind="naver_ner", path=HERE)) == ((0, 1), (2, 3), (4, 5))


def test_a_request_is_one_example_or_many() -> None:
    assert TEXT.examples({"text": " 좋다 "}) == [TextExample("1", "좋다", None, None)]
    assert TEXT.examples({"texts": ["a", {"text": "b"}]}) == [
        TextExample("1", "a", None, None),
        TextExample("2", "b", None, None),
    ]
    assert PAIRS.examples({"text": "a", "pair": "b"}) == [TextExample("1", "a", "b", None)]
    asked = {"question": "who", "context": " it is I"}
    assert QUESTIONS.examples(asked) == [QuestionExample("1", "who", " it is I", None, "1")]
    assert QUESTIONS.examples({"texts": [asked]}) == QUESTIONS.examples(asked)
    assert TAGS.examples({"text": " Ada sings"}) == [TaggedExample("1", " Ada sings", ((1, 4), (5, 10)), None)]


@pytest.mark.parametrize(
    ("form", "body", "message"),
    [
        (TEXT, [1], r"a request must be a JSON object, got \[1\]"),
        (TEXT, {}, "1: the field 'text' is missing"),
        (TEXT, {"txt": "a"}, r"1: must be text, got 'txt'; did you mean text\?"),
        (TEXT, {"text": 3}, "1: text must be a text, got 3"),
        (TEXT, {"text": " \n"}, "1: the text is empty"),
        (TEXT, {"text": "a\ud800"}, "1: the text is not UTF-8 from character 2 on"),
        (TEXT, {"texts": []}, '"texts" must be a list of one or more'),
        (TEXT, {"texts": ["a"], "text": "b"}, '"texts" must be a list of one or more, and stand alone'),
        (TEXT, {"texts": ["a", ""]}, "2: the text is empty"),
        (PAIRS, {"text": "a"}, "1: the field 'pair' is missing"),
        (PAIRS, {"texts": ["a"]}, "1: must be an object with text and pair, got 'a'"),
        (QUESTIONS, {"question": "who", "context": ""}, "1: the context is empty"),
    ],
)
def test_requests_that_cannot_be(form: RawForm, body: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        form.examples(body)
