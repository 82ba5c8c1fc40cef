"""Answers of a finished run to any number of examples, as JSON has them and as people read them.

examples --chunks--> Predictor --as_json--> an answer each --readable--> lines for people
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from reforge.corpora.labelled import Example
from reforge.runs.predictor import Predictor
from reforge.tracking.entities import show_classes, show_entities

CHUNK_EXAMPLES = 1000  # held in memory at once, so that a file may have any size

Answer = dict[str, Any]


def answer_all(predictor: Predictor, examples: Iterable[Example]) -> Iterator[Answer]:
    """Stream the answer to each example, in order, as the lines of predictions.jsonl have it."""
    stream = iter(examples)
    while chunk := list(islice(stream, CHUNK_EXAMPLES)):
        for example, prediction in zip(chunk, predictor.predict(chunk), strict=True):
            yield predictor.task.as_json(example, prediction)


def readable(answer: Mapping[str, Any], colour: bool) -> str:
    """An answer for people: entities in their text, classes by their probability, a score, or what was found."""
    if "entities" in answer:
        return show_entities(answer["text"], answer["entities"], colour)
    if "probabilities" in answer:
        return show_classes(answer["probabilities"], colour)
    if "answer" in answer:
        return f"{answer['answer'] or '(no answer)'}  ({answer['score']:.0%})"
    return f"{answer['score']:.3f}" if "score" in answer else json.dumps(answer, ensure_ascii=False)


def asked(answer: Mapping[str, Any]) -> str | None:
    """What was asked, as a heading of the answer; None where the answer shows it."""
    if "entities" in answer:
        return None
    texts = [answer[name] for name in ("text", "pair", "question") if name in answer]
    return " / ".join(texts)
