"""The `data:` section of fine-tuning, and the three sets that it describes."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pydantic import Field

from reforge.corpora.labelled import AnyLabelled, Example, LabelledOptions
from reforge.corpora.tally import Tally
from reforge.spec import Part, Problem, UserError
from reforge.tasks.splitting import assign, sample, texts_of

TRAIN, VALID, TEST = 0, 1, 2


class Fold(Part):
    """One part of `of` equal ones, which is held out as the test set."""

    index: int = Field(ge=0)
    of: int = Field(ge=2)


class LabelledData(Part):
    """Labelled sets: what is trained on, what decides when it was best, and what is scored in the end.

    train: the training set
    valid: the validation set; without it `valid_fraction` of the training set is held out
    test: the test set; without it `test_fraction` of the training set is held out, or nothing is
    max_train_examples, max_valid_examples, max_test_examples: take so many, drawn by their content
    split_seed: of everything that is drawn; not the same as train.seed, so that runs of many seeds share their sets
    block_tokens: the most tokens of a row, special ones included
    fold: the part held out as the test set; cross-validation sets it
    Parts are alike in their labels, and equal texts are never on both sides.
    """

    train: AnyLabelled
    valid: AnyLabelled | None = None
    test: AnyLabelled | None = None
    valid_fraction: float = Field(0.1, gt=0, lt=1)
    test_fraction: float = Field(0.0, ge=0, lt=1)
    max_train_examples: int | None = Field(None, ge=1)
    max_valid_examples: int | None = Field(None, ge=1)
    max_test_examples: int | None = Field(None, ge=1)
    split_seed: int = Field(1, ge=0)
    block_tokens: int = Field(128, ge=16, le=2**20)
    fold: Fold | None = None

    @property
    def sources(self) -> dict[str, LabelledOptions]:
        """The sets that lie somewhere, by their key."""
        return {
            key: source
            for key, source in (("train", self.train), ("valid", self.valid), ("test", self.test))
            if source is not None
        }

    def problems(self) -> Iterator[Problem]:
        """Fractions are of a set that is not given; what is held out leaves something to train on."""
        if self.test is not None and self.test_fraction:
            yield Problem(("test_fraction",), "must be 0 where data.test is given", self.test_fraction)
        yield from self._fold_problems()
        if self.valid is None and self.valid_fraction + self.test_fraction >= 1:
            rule = f"must leave something to train on beside test_fraction ({self.test_fraction:g})"
            yield Problem(("valid_fraction",), rule, self.valid_fraction)

    def _fold_problems(self) -> Iterator[Problem]:
        if self.fold is None:
            return
        if self.test is not None or self.test_fraction:
            yield Problem(("fold",), "must be left out where there is a test set: it holds one out itself")
        if self.fold.index >= self.fold.of:
            yield Problem(("fold", "index"), f"must be below fold.of ({self.fold.of})", self.fold.index)


class Sets(NamedTuple):
    """Examples to train on, to validate on, and to score in the end (none where no test set is asked for)."""

    train: list[Example]
    valid: list[Example]
    test: list[Example]
    notes: list[str]

    @classmethod
    def read(cls, data: LabelledData) -> "Sets":
        """The sets of `data`. Raises UserError where one is left without an example."""
        notes: list[str] = []
        given = {name: _read(name, source, notes) for name, source in data.sources.items()}
        parts = _divide(given["train"], data)
        train, valid, test = parts[TRAIN], given.get("valid", parts[VALID]), given.get("test", parts[TEST])
        sets = cls(
            train=sample(train, data.max_train_examples, data.split_seed),
            valid=sample(valid, data.max_valid_examples, data.split_seed),
            test=sample(test, data.max_test_examples, data.split_seed),
            notes=notes,
        )
        for name, wanted in (("train", True), ("valid", True), ("test", bool(data.test_fraction or data.fold))):
            if wanted and not getattr(sets, name):
                raise UserError(f"data: no example is left for the {name} set of {len(given['train']):,} examples")
        notes.extend(sets._overlaps())
        return sets

    def _overlaps(self) -> Iterator[str]:
        """How much of what is scored is trained on too: nothing of what is held out, but files may share texts."""
        seen = {text for example in self.train for text in texts_of(example)}
        for name, part in (("valid", self.valid), ("test", self.test)):
            count = sum(not seen.isdisjoint(texts_of(example)) for example in part)
            if count:
                yield f"{name}: {count:,} of {len(part):,} examples share a text with the training set"


def _read(name: str, source: LabelledOptions, notes: list[str]) -> list[Example]:
    tally = Tally()
    examples = list(source.read(tally=tally))
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in tally.dropped.most_common())
    notes.append(f"{name}: {len(examples):,} examples" + (f"; left out: {dropped}" if dropped else ""))
    return examples


def _divide(examples: Sequence[Example], data: LabelledData) -> list[list[Example]]:
    """The training set's own three parts."""
    valid = 0.0 if data.valid is not None else data.valid_fraction
    if data.fold is not None:
        folds = assign(examples, [1 / data.fold.of] * data.fold.of, data.split_seed)
        inside = [example for example, fold in zip(examples, folds, strict=True) if fold != data.fold.index]
        held_out = [example for example, fold in zip(examples, folds, strict=True) if fold == data.fold.index]
        return [*_by_part(inside, [1 - valid, valid], data.split_seed + 1), held_out]
    return _by_part(examples, [1 - valid - data.test_fraction, valid, data.test_fraction], data.split_seed)


def _by_part(examples: Sequence[Example], shares: Sequence[float], seed: int) -> list[list[Example]]:
    parts: list[list[Example]] = [[] for _ in shares]
    for example, part in zip(examples, assign(examples, shares, seed), strict=True):
        parts[part].append(example)
    return parts
