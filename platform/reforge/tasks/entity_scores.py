"""The scores of tagged texts, from the tags of all units of all examples: entities first, as seqeval counts them.

f1, precision, recall   micro, over entities: right are those with type, first and last unit right. Seqeval's default
                        mode, which is conlleval's: an I- that goes on nothing of its type begins an entity. (A CRF's
                        tags give the same in the strict mode of IOB2; a linear head's need not.)
macro_f1                the mean of the types' F1, over those that truth or guess has
accuracy                share of units with the right tag, O among them

Of sets that are tagged character by character also, over characters that are no white space:
char_f1                 the mean of the tags' F1, over those but O that truth or guess has
klue_f1, klue_char_f1   what KLUE's baseline computes (https://github.com/KLUE-benchmark/KLUE-baseline): macro F1 of
                        entities in seqeval's strict mode of IOB2, and the mean of all tags' F1, O among them, 1 for a
                        tag that neither truth nor guess has; [CLS] and [SEP] of every sentence count as O found
"""

import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from itertools import chain

import numpy as np

from reforge.corpora.labelled import TaggedExample
from reforge.tasks.alignment import OUTSIDE
from reforge.tasks.task import Confusion, Scorecard

Tags = Sequence[str]
WORD_METRICS = ("f1", "precision", "recall", "macro_f1", "accuracy")
CHARACTER_METRICS = ("char_f1", "klue_f1", "klue_char_f1")
_JOINER = "\u200d"
_FRAME = [OUTSIDE]


def entity_scorecard(examples: Sequence[TaggedExample], guess: Sequence[Tags], names: Tags) -> Scorecard:
    """The scores of `guess` and of each type, and how types were confused; `names` are the tags of the task."""
    # Imported where they are used: seconds, and most processes of a job score nothing.
    from seqeval.metrics.sequence_labeling import accuracy_score, precision_recall_fscore_support

    gold, found = [list(tags_of(example)) for example in examples], [list(tags) for tags in guess]
    kinds = types_of(chain(*gold, *found))
    with warnings.catch_warnings():  # of seqeval, and numpy below it, on 0 / 0, which counts as 0
        warnings.simplefilter("ignore")
        precision, recall, f1, _ = precision_recall_fscore_support(gold, found, average="micro", zero_division=0)
        by_type = precision_recall_fscore_support(gold, found, average=None, zero_division=0)
        accuracy = accuracy_score(gold, found) if any(gold) else 0.0
    macro_f1 = by_type[2].mean() if kinds else 0.0
    metrics = dict(zip(WORD_METRICS, map(float, (f1, precision, recall, macro_f1, accuracy)), strict=True))
    if are_characters(examples):
        metrics |= character_metrics(*_without_space(examples, gold, found), names)
    return Scorecard(metrics, _figures(kinds, by_type), _confusion(gold, found, types_of(names)))


def character_metrics(gold: Sequence[list[str]], guess: Sequence[list[str]], names: Tags) -> dict[str, float]:
    """The figures of sets that are tagged character by character, from their tags without those of white space."""
    from seqeval.metrics import f1_score as entity_f1
    from seqeval.scheme import IOB2
    from sklearn.metrics import f1_score

    index_of = {name: index for index, name in enumerate(names)}
    truth, found = ([index_of[tag] for tag in chain(*tags)] for tags in (gold, guess))
    seen = sorted({*truth, *found} - {index_of[OUTSIDE]})
    framed = [list(chain.from_iterable([*_FRAME, *one, *_FRAME] for one in tags)) for tags in (gold, guess)]
    all_truth, all_found = ([index_of[tag] for tag in tags] for tags in framed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        klue_f1 = entity_f1([framed[0]], [framed[1]], average="macro", mode="strict", scheme=IOB2, zero_division=0)
    return {
        "char_f1": float(f1_score(truth, found, labels=seen, average="macro", zero_division=0.0)) if seen else 0.0,
        "klue_f1": float(klue_f1),
        "klue_char_f1": float(
            f1_score(all_truth, all_found, labels=range(len(names)), average="macro", zero_division=1.0)
        ),
    }


def are_characters(examples: Iterable[TaggedExample]) -> bool:
    """Whether every unit is a single character, with the marks that combine with it; False of no units."""
    units = {example.text[start:end] for example in examples for start, end in example.units}
    return bool(units) and all(map(_is_character, units))


def types_of(tags: Iterable[str]) -> tuple[str, ...]:
    """The entity types of tags, in order."""
    return tuple(sorted({tag[2:] for tag in set(tags) if tag != OUTSIDE}))


def tags_of(example: TaggedExample) -> Tags:
    """The true tags of a labelled example."""
    assert example.tags is not None, f"{example.key} is not labelled"
    return example.tags


def _is_character(unit: str) -> bool:
    bases = [char for char in unicodedata.normalize("NFC", unit) if unicodedata.category(char)[0] != "M"]
    return len(bases) <= 1 or _JOINER in unit


def _without_space(
    examples: Sequence[TaggedExample], *sets: Sequence[list[str]]
) -> tuple[list[list[str]], list[list[str]]]:
    """The tags of units that are no white space."""
    kept = [[not example.text[start:end].isspace() for start, end in example.units] for example in examples]
    gold, guess = (
        [[tag for tag, keep in zip(tags, keeps, strict=True) if keep] for tags, keeps in zip(one, kept, strict=True)]
        for one in sets
    )
    return gold, guess


def _figures(kinds: Sequence[str], by_type: Sequence[Sequence[float]]) -> dict[str, dict[str, float]]:
    names = ("precision", "recall", "f1", "support")
    columns = zip(*by_type, strict=True) if kinds else ()
    return {
        kind: dict(zip(names, map(float, values), strict=True)) for kind, values in zip(kinds, columns, strict=True)
    }


def _confusion(gold: Sequence[list[str]], guess: Sequence[list[str]], kinds: Sequence[str]) -> Confusion:
    """How often units of each type, or outside of all, were taken for which."""
    from sklearn.metrics import confusion_matrix

    names = (OUTSIDE, *kinds)
    index_of = {OUTSIDE: 0} | {f"{mark}-{kind}": number for number, kind in enumerate(kinds, 1) for mark in "BI"}
    truth, found = ([index_of[tag] for tag in chain(*tags)] for tags in (gold, guess))
    counts = confusion_matrix(truth, found, labels=range(len(names))) if truth else [[0] * len(names)] * len(names)
    return Confusion(names, np.array(counts))
