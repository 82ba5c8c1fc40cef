"""Examples from what people type: on a command line, in a file of lines, or in a request.

"text", "pair", "question", "context"  --RawForm of the run--> an example without an answer
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reforge.corpora.labelled import Example, Gives, LabelledOptions, QuestionExample, TaggedExample, TextExample
from reforge.corpora.labelled.entity_spans import Unit, characters, words
from reforge.corpora.labelled.json_spans import JsonSpans
from reforge.corpora.labelled.klue_ner import KlueNer
from reforge.corpora.labelled.naver_ner import NaverNer
from reforge.corpora.records import clean, nearest
from reforge.runs.predictor import Predictor
from reforge.spec import UserError
from reforge.spec.problem import show_value

CONTEXT = "context"
TEXTS = "texts"
PAIR = ("text", "pair")
_FIELDS: dict[Gives, tuple[str, ...]] = {"texts": ("text",), "tags": ("text",), "questions": ("question", CONTEXT)}


@dataclass(frozen=True)
class RawForm:
    """How typed texts become examples of a run's task.

    fields: what an example is made of, in the order in which it is typed
    like: the set that the run was trained on, whose units a text to be tagged is cut into
    """

    gives: Gives
    fields: tuple[str, ...]
    like: LabelledOptions

    @classmethod
    def of(cls, predictor: Predictor) -> "RawForm":
        """The form of what a run answers."""
        gives = predictor.options.gives
        is_pair = gives == "texts" and predictor.options.num_segments == 2
        return cls(gives, PAIR if is_pair else _FIELDS[gives], predictor.data["train"])

    @property
    def is_pair(self) -> bool:
        """Whether two texts make an example."""
        return self.fields == PAIR

    @property
    def has_context(self) -> bool:
        """Whether questions are asked about a context, which is said once for several."""
        return CONTEXT in self.fields

    def example(self, key: str, values: Mapping[str, Any]) -> Example:
        """The example made of the fields' texts; raises UserError at one that is missing, unknown or empty."""
        unknown = next((name for name in values if name not in self.fields), None)
        if unknown is not None:
            wanted = " and ".join(self.fields)
            raise UserError(f"{key}: must be {wanted}, got {unknown!r}{nearest(unknown, self.fields)}")
        texts = [_text(key, name, values.get(name)) for name in self.fields]
        if self.gives == "questions":
            question, context = texts
            return QuestionExample(key, question, context, None, group=key)
        if self.gives == "tags":
            return TaggedExample(key, texts[0], units_of(texts[0], self.like), None)
        first, second = [*map(clean, texts), None][:2]  # as all sets of texts are read; places count in the others
        assert first is not None
        return TextExample(key, first, second, None)

    def examples(self, body: Any) -> list[Example]:
        """The examples of a request: its own fields, or many under "texts", each a text or an object of fields."""
        if not isinstance(body, dict):
            raise UserError(f"a request must be a JSON object, got {show_value(body)}")
        if TEXTS not in body:
            return [self.example("1", body)]
        many = body[TEXTS]
        if not isinstance(many, list) or not many or len(body) > 1:
            raise UserError(f'"{TEXTS}" must be a list of one or more, and stand alone')
        return [self.example(str(number), self._fields_of(number, item)) for number, item in enumerate(many, 1)]

    def _fields_of(self, number: int, item: Any) -> Mapping[str, Any]:
        if isinstance(item, dict):
            return item
        if len(self.fields) > 1:
            raise UserError(f"{number}: must be an object with {' and '.join(self.fields)}, got {show_value(item)}")
        return {self.fields[0]: item}


def units_of(text: str, like: LabelledOptions) -> tuple[Unit, ...]:
    """The units of a text that nobody has cut yet, [start, end) in characters, as those of the set `like` are.

    Characters where the set is tagged by character; what stands between white space in Naver's layouts; elsewhere words
    between white space, with each sign of punctuation by itself.
    """
    if isinstance(like, KlueNer) or (isinstance(like, JsonSpans) and like.units == "characters"):
        return characters(text)
    if isinstance(like, NaverNer):
        return _between_spaces(text)
    return words(text)


def _between_spaces(text: str) -> tuple[Unit, ...]:
    units, end = list[Unit](), 0
    for word in text.split():
        start = text.index(word, end)
        end = start + len(word)
        units.append((start, end))
    return tuple(units)


def _text(key: str, name: str, value: Any) -> str:
    if value is None:
        raise UserError(f"{key}: the field {name!r} is missing")
    if not isinstance(value, str):
        raise UserError(f"{key}: {name} must be a text, got {show_value(value)}")
    if not value.strip():
        raise UserError(f"{key}: the {name} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{key}: the {name} is not UTF-8 from character {error.start + 1} on") from None
    return value
