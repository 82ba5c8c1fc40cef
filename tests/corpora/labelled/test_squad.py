"""Questions in SQuAD's layout: answers at their offsets, and every fault named by the question."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from reforge.corpora import Tally
from reforge.corpora.labelled import Answer, QuestionExample
from reforge.corpora.labelled.squad import Squad
from reforge.spec import UserError

CONTEXT = "소는 밭을 간다. 그 밭은 마을 뒤에 있다."


def question(key: str = "q1", text: str = "소는 무엇을 가는가?", **others: Any) -> dict[str, Any]:
    return {"id": key, "question": text, "answers": [{"text": "밭", "answer_start": 3}], **others}


def whole(*questions: Any, context: Any = CONTEXT) -> dict[str, Any]:
    return {"version": "x", "data": [{"title": "소", "paragraphs": [{"context": context, "qas": list(questions)}]}]}


def read(folder: Path, value: Any, labelled: bool = True, **options: Any) -> tuple[list[Any], Tally]:
    raw = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()
    (folder / "qa.json").write_bytes(raw)
    tally = Tally()
    return list(Squad(path=folder / "qa.json", **options).read(labelled=labelled, tally=tally)), tally


def test_a_question_comes_with_context_answers_and_article(tmp_path: Path) -> None:
    examples, _ = read(tmp_path, whole(question(), question("q2", "밭은 어디에 있는가?")))
    assert examples == [
        QuestionExample("q1", "소는 무엇을 가는가?", CONTEXT, (Answer("밭", 3),), "qa.json: article 1 (소)"),
        QuestionExample("q2", "밭은 어디에 있는가?", CONTEXT, (Answer("밭", 3),), "qa.json: article 1 (소)"),
    ]


def test_articles_of_one_title_stay_apart(tmp_path: Path) -> None:
    data = whole(question("q1"))["data"] + whole(question("q2"))["data"]
    assert len({example.group for example in read(tmp_path, {"data": data})[0]}) == 2


def test_several_answers_come_once_each(tmp_path: Path) -> None:
    answers = [{"text": text, "answer_start": at} for text, at in (("밭", 3), ("밭을", 3), ("밭", 3), ("밭", 12))]
    [example], _ = read(tmp_path, whole(question(answers=answers)))
    assert example.answers == (Answer("밭", 3), Answer("밭을", 3), Answer("밭", 12))


def test_a_question_without_an_answer(tmp_path: Path) -> None:
    impossible = question(answers=[], is_impossible=True, plausible_answers=[{"text": "밭", "answer_start": 0}])
    examples, _ = read(tmp_path, whole(impossible, question("q2", is_impossible=False)))
    assert [example.answers for example in examples] == [(), (Answer("밭", 3),)]


def test_text_is_taken_to_the_letter(tmp_path: Path) -> None:
    context = " \u1112\u1161\u11ab 칸\r\n👩\u200d🌾\u00a0밭 "
    at = context.index("밭")
    [example], _ = read(tmp_path, whole(question(answers=[{"text": "밭", "answer_start": at}]), context=context))
    assert (example.context, example.answers) == (context, (Answer("밭", at),))


def test_a_misplaced_answer_is_said_with_what_stands_there(tmp_path: Path) -> None:
    wrong = question(answers=[{"text": "밭", "answer_start": 11}])
    with pytest.raises(UserError) as caught:
        read(tmp_path, whole(question("q0"), wrong))
    assert str(caught.value) == (
        f"{tmp_path}/qa.json: question q1: an answer must stand at its offset; at 11 of 24 characters there is ' ', "
        "not '밭': the nearest is at 12 (repair_offsets: true)"
    )


@pytest.mark.parametrize(
    ("start", "repaired"), [(-5, 3), (0, 3), (4, 3), (7, 3), (8, 12), (11, 12), (13, 12), (999, 12)]
)
def test_a_misplaced_answer_moves_to_the_nearest_place(tmp_path: Path, start: int, repaired: int) -> None:
    record = whole(question(answers=[{"text": "밭", "answer_start": start}]))
    [example], tally = read(tmp_path, record, repair_offsets=True)
    assert example.answers == (Answer("밭", repaired),)
    assert tally.fixed == {"answer moved to where it stands": 1}
    with pytest.raises(UserError, match="must stand at its offset"):
        read(tmp_path, record)


def test_bad_questions_are_counted_by_reason(tmp_path: Path) -> None:
    nowhere = question("q2", answers=[{"text": "말", "answer_start": 3}])
    examples, tally = read(
        tmp_path,
        whole(question(), nowhere, question(), question("q3", ""), question("q4", answers=[])),
        on_bad_record="skip",
        repair_offsets=True,
    )
    assert [example.key for example in examples] == ["q1"]
    assert tally.dropped == {
        "answer that is not at its offset": 1,
        "question with the id of another": 1,
        "question without a text": 1,
        "question without answers": 1,
    }


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (whole(question(answers=[{"text": "말", "answer_start": 3}])), "not '말': it is nowhere in the context"),
        (
            whole(question(answers=[{"text": "밭", "answer_start": "3"}])),
            "q1: an answer must have a text .*'answer_start'",
        ),
        (whole(question(answers=[{"text": "", "answer_start": 3}])), "q1: an answer must have a text 'text'"),
        (whole(question(answers=[])), "question q1: must have an answer, or is_impossible: true; has 0 answers"),
        (whole(question(is_impossible=True)), "question q1: must have no answer, is_impossible is true; has 1 answers"),
        (whole({"id": "q1", "question": "왜?", "answer": []}), "q1: must have a list 'answers', has .* mean answer?"),
        (whole(question(text="  ")), "question q1: must have a text 'question'"),
        (whole("왜?"), r"question qa\.json: article 1 \(소\): question 1: must have a text 'question'"),
        (whole(question(), question()), "question q1: must have an id of its own"),
        (whole(question(), context=""), r"article 1 \(소\), paragraph 1: must have a text 'context'"),
        ({"dataa": []}, r"qa\.json: the whole: must have a list 'data', has dataa; did you mean dataa\?"),
        ([1], "must be an object with a list 'data', it is of type list"),
        ({"data": [{"title": "소"}]}, r"article 1 \(소\): must have a list 'paragraphs', has title"),
        ({"data": []}, r"qa\.json holds no example"),
        (b"", r"qa\.json holds no example"),
        (b'{"data": [\n {"title": }]}', r"qa\.json:2: no JSON: expected value at column 12"),
        (json.dumps(whole(question()), ensure_ascii=False).encode("cp949"), r"is not UTF-8: .* set encoding: cp949"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, value)
    assert "\n" not in str(caught.value)


def test_a_set_to_be_predicted_needs_no_answers(tmp_path: Path) -> None:
    examples, _ = read(tmp_path, whole({"id": 7, "question": "왜?"}, question()), labelled=False)
    assert [(example.key, example.answers) for example in examples] == [("7", None), ("q1", None)]


def test_packed_files_and_a_byte_order_mark(tmp_path: Path) -> None:
    packed = tmp_path / "qa.json.gz"
    packed.write_bytes(gzip.compress(b"\xef\xbb\xbf" + json.dumps(whole(question()), indent=1).encode()))
    [example] = Squad(path=tmp_path).read()
    assert isinstance(example, QuestionExample)
    assert example.answers == (Answer("밭", 3),)
