"""How well an answer matches the true ones, as the scorers that come with the sets measure it.

    answer --normalise--> text --units--> characters (KorQuAD) or words (SQuAD) --> F1 of what they have in common

KorQuAD 1.0: Lim et al. 2019, https://arxiv.org/abs/1909.07005, evaluate-v1.0.py. SQuAD 1.1: Rajpurkar et al. 2016,
https://arxiv.org/abs/1606.05250, evaluate-v1.1.py. Questions without an answer: SQuAD 2.0, Rajpurkar et al. 2018,
https://arxiv.org/abs/1806.03822.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

ScorerName = Literal["korquad", "squad"]

_BRACKETS_AND_QUOTES = str.maketrans(dict.fromkeys("'\"‘’<>〈〉《》()", " "))
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


class Match(NamedTuple):
    """How far an answer is a true one; both between 0 and 1."""

    f1: float
    exact: float


class AnswerScorer(NamedTuple):
    """A set's own measure.

    normalise: what is left of an answer before it is compared
    units: of a normalised answer, of which F1 counts those in common
    """

    normalise: Callable[[str], str]
    units: Callable[[str], Sequence[str]]

    def match(self, answer: str, answers: Iterable[str]) -> Match:
        """The best F1 and the best exact match over the true answers; where there are none, "" is right."""
        guess = self.normalise(answer)
        truths = [self.normalise(truth) for truth in answers]
        if not truths:
            return Match(float(not guess), float(not guess))
        best = max(overlap_f1(self.units(guess), self.units(truth)) for truth in truths)
        return Match(best, float(guess in truths))


def overlap_f1(guess: Sequence[str], truth: Sequence[str]) -> float:
    """F1 of two bags of units; 0 where they share none, also where both are empty, as the published scorers have it."""
    num_same = (Counter(guess) & Counter(truth)).total()
    return 2 * num_same / (len(guess) + len(truth)) if num_same else 0.0


def normalise_korquad(text: str) -> str:
    """Lower case; quotes and brackets are spaces, other ASCII punctuation is nothing, white space is one space."""
    return " ".join(text.translate(_BRACKETS_AND_QUOTES).lower().translate(_PUNCTUATION).split())


def normalise_squad(text: str) -> str:
    """Lower case, without ASCII punctuation and English articles; white space is one space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def characters(normalised: str) -> Sequence[str]:
    """All but the spaces: Korean particles stick to words, so that whole words would seldom be equal."""
    return normalised.replace(" ", "")


ANSWER_SCORERS: dict[ScorerName, AnswerScorer] = {
    "korquad": AnswerScorer(normalise_korquad, characters),
    "squad": AnswerScorer(normalise_squad, str.split),
}
