"""Named entities: a tag for each unit of a text, which is a word or a character.

text, units --pieces--> --Alignment--> positions --windows--> rows --TokenModel--> emissions of each row's positions
    --joined--> a text's emissions --head's decoder--> tags of positions --Alignment--> tags of units --> scores
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import Field
from tokenizers import Tokenizer

from reforge.corpora.labelled import Example, Gives, TaggedExample
from reforge.heads import Head, Level, Outputs, TokenHead
from reforge.models import Backbone
from reforge.spec import Problem, UserError
from reforge.tasks.alignment import OUTSIDE, unit_tags
from reforge.tasks.augmentation import Augmentation
from reforge.tasks.class_names import known, weights_of
from reforge.tasks.decoding import decode
from reforge.tasks.entity_scores import (
    CHARACTER_METRICS,
    WORD_METRICS,
    are_characters,
    entity_scorecard,
    tags_of,
    types_of,
)
from reforge.tasks.tagged_rows import UNITS, Part, TaggedRows, joined
from reforge.tasks.tagged_text import entities, in_place, num_wrong, words
from reforge.tasks.task import Array, Row, Scorecard, Task, TaskModel, TaskOptions, Verdict
from reforge.tasks.token_model import PLACES, TokenModel
from reforge.tokenizers import Vocabulary

Weight = Annotated[float, Field(gt=0)]
Split = Literal["auto", "words", "units"]


class NerOptions(TaskOptions):
    """How entities are learnt.

    split: `words` takes the tokenizer's pieces as they are, and asks a word's tag of its first; `units` cuts pieces
        where a unit ends, so that an entity can end within what was a piece; `auto` is units where every unit of the
        training set is a single character, else words
    overlap_tokens: what a window over a text longer than a block has in common with the one before it, at most half
    class_weights: of each tag in the loss, a weighted mean: `balanced` makes all weigh the same together; or by tag,
        {B-PER: 2.0}, the others weigh 1
    label_smoothing: share of the target that is spread over all tags
    augment: how texts are changed while training; only masking, which leaves every word where it is
    """

    kind: Literal["ner"] = "ner"
    split: Split = "auto"
    overlap_tokens: int = Field(64, ge=0)
    class_weights: Literal["none", "balanced"] | dict[str, Weight] = "none"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    augment: Augmentation = Augmentation()
    gives: ClassVar[Gives] = "tags"
    level: ClassVar[Level] = "token"
    default_head: ClassVar[str] = "crf"
    default_metric: ClassVar[str] = "f1"
    metric_names: ClassVar[tuple[str, ...]] = (*WORD_METRICS, *CHARACTER_METRICS)

    def problems(self) -> Iterator[Problem]:
        """Words stay in their places."""
        yield from super().problems()
        for key in ("delete_prob", "swap_prob"):
            if value := getattr(self.augment, key):
                yield Problem(
                    ("augment", key), "must be 0 where every word has a tag: only mask_prob may be more", value
                )

    def settle(self, examples: Sequence[Example]) -> Self:
        """With split decided and balanced weights as numbers; raises UserError at a metric that the set can't have."""
        tagged = [tagged_example(example) for example in examples]
        by_character = are_characters(tagged)
        if self.metric in CHARACTER_METRICS and not by_character:
            raise UserError(
                f"task.metric: {self.metric} is of sets that are tagged character by character, and units of "
                f"{examples[0].key} are longer; take one of {', '.join(WORD_METRICS)}"
            )
        changes: dict[str, Any] = {}
        if self.split == "auto":
            changes["split"] = "units" if by_character else "words"
        if self.class_weights == "balanced":
            changes["class_weights"] = _balanced_weights(tagged)
        return self.model_copy(update=changes)

    def labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """O, then B- and I- of each type; raises UserError where there is no entity, or an option names another tag."""
        kinds = types_of(tag for example in examples for tag in tags_of(labelled_example(example)))
        if not kinds:
            raise UserError(
                f"none of the {len(examples):,} training examples ({examples[0].key} to {examples[-1].key}) has an "
                f"entity, all tags are {OUTSIDE}: there is nothing to learn"
            )
        names = (OUTSIDE, *(f"{mark}-{kind}" for kind in kinds for mark in "BI"))
        for name in self.class_weights if isinstance(self.class_weights, dict) else ():
            if name not in names:
                raise UserError(f"task.class_weights: training has no tag {name}: {known(name, names)}")
        return names

    def bind(self, labels: tuple[str, ...], tokenizer: Tokenizer, block_tokens: int) -> "Ner":
        """The task."""
        assert self.split != "auto", "settle() decides split, from the training set"
        return Ner(self, labels, tokenizer, block_tokens)

    def weights(self, names: tuple[str, ...]) -> tuple[float, ...] | None:
        """The weight of each tag, None where all weigh 1."""
        return weights_of(self.class_weights, names)


class Ner(Task):
    """Entities of the types that training saw. A prediction is the tags of an example's units."""

    num_segments = NerOptions.num_segments
    metric_names = NerOptions.metric_names

    def __init__(self, options: NerOptions, names: tuple[str, ...], tokenizer: Tokenizer, block_tokens: int) -> None:
        self.options, self.names = options, names
        self.outputs = Outputs(len(names), "token", names)
        self.num_special = Vocabulary.of(tokenizer).num_special
        self.tagged_rows = TaggedRows(tokenizer, names, block_tokens, options.overlap_tokens, options.split == "units")
        self.head: TokenHead | None = None

    def rows(self, examples: Sequence[Example], labelled: bool = True) -> Iterator[Row]:
        tagged = [tagged_example(example) for example in examples]
        if labelled:
            for example in tagged:
                self._check(example)
        return self.tagged_rows.of(tagged, labelled)

    def build(self, backbone: Backbone, head: Head) -> TaskModel:
        """The model; its head also decodes what `predict` is given from now on."""
        assert isinstance(head, TokenHead), head
        self.head = head
        options = self.options
        return TokenModel(
            backbone, head, options.augment, self.num_special, options.weights(self.names), options.label_smoothing
        )

    def digest(self, row: Row, outputs: Mapping[str, Array]) -> Part:
        """The scores of the row's positions, and where its units stand among them."""
        num_positions = len(row.extras[PLACES])
        return Part(outputs["scores_BWK"][:num_positions].astype(np.float32), row.extras[UNITS])

    def predict(self, examples: Sequence[Example], digests: Sequence[Sequence[Part]]) -> list[tuple[str, ...]]:
        """Whole texts are decoded, so that no seam between windows holds what is forbidden elsewhere."""
        assert self.head is not None, "build() comes before predict()"
        whole = [joined(parts) for parts in digests]
        found = decode(self.head, [scores_WK for scores_WK, _ in whole])
        return [
            unit_tags(positions, [self.names[tag] for tag in tags_W])
            for (_, positions), tags_W in zip(whole, found, strict=True)
        ]

    def score(self, examples: Sequence[Example], predictions: Sequence[tuple[str, ...]]) -> Scorecard:
        """The scores of entities."""
        return entity_scorecard([labelled_example(example) for example in examples], predictions, self.names)

    def as_json(self, example: Example, prediction: tuple[str, ...]) -> dict[str, Any]:
        """Key, text, words or characters, their tags, entities; true tags and entities where they are known."""
        tagged = tagged_example(example)
        line = {
            "key": tagged.key,
            "text": tagged.text,
            "words": words(tagged),
            "tags": list(prediction),
            "entities": entities(tagged, prediction),
        }
        if tagged.tags is None:
            return line
        return {**line, "gold": {"tags": list(tagged.tags), "entities": entities(tagged, tagged.tags)}}

    def verdict(self, example: Example, prediction: tuple[str, ...]) -> Verdict:
        """As bad as the number of entities that were missed, made up or found in part; the text with them in place."""
        tagged = labelled_example(example)
        gold = tags_of(tagged)
        return Verdict(
            float(num_wrong(gold, prediction)), tagged.text, in_place(tagged, gold), in_place(tagged, prediction)
        )

    def notes(self) -> list[str]:
        return self.tagged_rows.notes()

    def _check(self, example: TaggedExample) -> None:
        """Raise UserError at a type that training never saw."""
        unknown = next((tag for tag in tags_of(labelled_example(example)) if tag not in self.names), None)
        if unknown is not None:
            kinds = types_of(self.names)
            raise UserError(
                f'{example.key}: the type "{unknown[2:]}" is none that training saw: {known(unknown[2:], kinds)}'
            )


def tagged_example(example: Example) -> TaggedExample:
    """The example, which is a tagged text or one to be tagged."""
    assert isinstance(example, TaggedExample), example
    return example


def labelled_example(example: Example) -> TaggedExample:
    """The example with its tags; raises UserError where it has none."""
    tagged = tagged_example(example)
    if tagged.tags is None:
        raise UserError(f"{tagged.key}: has no tags")
    return tagged


def _balanced_weights(examples: Sequence[TaggedExample]) -> dict[str, float]:
    """n / (K n_k) for each tag: all weigh the same together (as scikit-learn's "balanced")."""
    counts = Counter(tag for example in examples for tag in tags_of(labelled_example(example)))
    return {tag: counts.total() / (len(counts) * count) for tag, count in sorted(counts.items())}
