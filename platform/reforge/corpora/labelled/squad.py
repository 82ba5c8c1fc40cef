"""SQuAD's layout, version 1.1 (KorQuAD 1.0) and 2.0: articles of paragraphs, questions about each, answers in it.

{"data": [{"title": ..., "paragraphs": [{"context": ..., "qas": [
    {"id": ..., "question": ..., "answers": [{"text": ..., "answer_start": 7}], "is_impossible": false}]}]}]}
"""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from reforge.corpora.encoding import Encoding
from reforge.corpora.labelled.example import Answer, QuestionExample
from reforge.corpora.labelled.json_file import MISSING, Element, list_at, no_list, whole_value
from reforge.corpora.labelled.reader import LabelledFiles
from reforge.corpora.reader import Reader
from reforge.spec.problem import show_value


class _Paragraph(NamedTuple):
    """A context, its questions, and the article it is of."""

    group: str
    context: str
    questions: list[Any]


class Squad(LabelledFiles):
    """Questions about paragraphs. Context and answers are taken to the letter, since offsets count their characters.

    An answer that does not stand at its offset, and a question that lacks anything, are bad records. The group of a
    question is its article: its title and its number in the file.

    repair_offsets: move such an answer to the nearest place where it does stand, and count it
    encoding: of all files
    """

    kind: Literal["squad"] = "squad"
    repair_offsets: bool = False
    encoding: Encoding = "utf-8"
    gives = "questions"
    endings = (".json",)

    def read_file(self, reader: Reader, labelled: bool) -> Iterator[QuestionExample]:
        ids = set[str]()
        for paragraph in _paragraphs(reader, self.encoding):
            for number, record in enumerate(paragraph.questions, 1):
                key = _key(record) or f"{paragraph.group}: question {number}"
                place = Element(reader, f"question {key}")
                if key in ids:
                    place.bad("question with the id of another", "must have an id of its own, an earlier one has it")
                    continue
                ids.add(key)
                yield from self._examples(key, record, paragraph, labelled, place)

    def _examples(
        self, key: str, record: Any, paragraph: _Paragraph, labelled: bool, place: Element
    ) -> Iterator[QuestionExample]:
        question = record.get("question") if isinstance(record, dict) else None
        if not isinstance(question, str) or not question.strip():
            place.bad("question without a text", "must have a text 'question'")
            return
        answers = self._answers(record, paragraph.context, place) if labelled else None
        if answers is not None or not labelled:
            yield QuestionExample(key, question, paragraph.context, answers, paragraph.group)

    def _answers(self, record: dict[str, Any], context: str, place: Element) -> tuple[Answer, ...] | None:
        """The answers, each once; None where one is bad."""
        found, has_none = record.get("answers"), record.get("is_impossible", False)
        if not isinstance(found, list):
            place.bad("question without answers", no_list(record, "answers"))
        elif bool(found) == bool(has_none):
            wanted = "no answer, is_impossible is true" if has_none else "an answer, or is_impossible: true"
            place.bad("question without answers", f"must have {wanted}; has {len(found)} answers")
        else:
            answers = [self._answer(answer, context, place) for answer in found]
            if None not in answers:
                return tuple(dict.fromkeys(answer for answer in answers if answer is not None))
        return None

    def _answer(self, record: Any, context: str, place: Element) -> Answer | None:
        text, start = (record.get(key) if isinstance(record, dict) else None for key in ("text", "answer_start"))
        if not isinstance(text, str) or not text.strip() or type(start) is not int:
            rule = "an answer must have a text 'text' and a whole number 'answer_start'"
            place.bad("answer without text or offset", f"{rule}, got {show_value(record)}")
            return None
        stands = context[start : start + len(text)] if start >= 0 else ""
        if stands == text:
            return Answer(text, start)
        return self._misplaced(text, start, context, place)

    def _misplaced(self, text: str, start: int, context: str, place: Element) -> Answer | None:
        at = _nearest_place(text, start, context)
        if at is not None and self.repair_offsets:
            place.reader.tally.fix("answer moved to where it stands")
            return Answer(text, at)
        stands = context[start : start + len(text)] if start >= 0 else ""
        where = "it is nowhere in the context" if at is None else f"the nearest is at {at} (repair_offsets: true)"
        message = (
            f"an answer must stand at its offset; at {start} of {len(context)} characters there is "
            f"{show_value(stands)}, not {show_value(text)}: {where}"
        )
        place.bad("answer that is not at its offset", message)
        return None


def _paragraphs(reader: Reader, encoding: Encoding) -> Iterator[_Paragraph]:
    value = whole_value(reader, encoding)
    if value is MISSING:
        return
    for number, article in enumerate(list_at(value, "data", Element(reader, "the whole")), 1):
        title = article.get("title", "") if isinstance(article, dict) else ""
        name = f"article {number}" + (f" ({title})" if title else "")
        for index, paragraph in enumerate(list_at(article, "paragraphs", Element(reader, name)), 1):
            place = Element(reader, f"{name}, paragraph {index}")
            questions = list_at(paragraph, "qas", place)
            context = paragraph.get("context") if isinstance(paragraph, dict) else None
            if isinstance(context, str) and context.strip():
                yield _Paragraph(f"{reader.name}: {name}", context, questions)
            elif questions:
                place.bad("paragraph without a context", "must have a text 'context'")


def _key(record: Any) -> str:
    key = record.get("id") if isinstance(record, dict) else None
    return str(key) if isinstance(key, str | int) else ""


def _nearest_place(text: str, start: int, context: str) -> int | None:
    """Where `text` begins in the context, as near to `start` as it does."""
    before = context.rfind(text, 0, max(0, start) + len(text))
    after = context.find(text, max(0, start))
    return min((at for at in (before, after) if at >= 0), key=lambda at: abs(at - start), default=None)
