"""Pre-training objectives: what is hidden from the model and how its guesses are scored.

A new objective is one file here, one line in `OBJECTIVES` and one spec in jobs/specs/.
"""

from typing import TYPE_CHECKING

from reforge.objectives.causal import CausalLMOptions
from reforge.objectives.electra import ElectraOptions
from reforge.objectives.learner import Inputs, Learner, Scores
from reforge.objectives.mlm import MaskedLMOptions
from reforge.objectives.mlm_nsp import MaskedLMWithNextSentenceOptions
from reforge.objectives.objective import Objective, ObjectiveOptions, Sample, Totals
from reforge.spec import one_of

OBJECTIVES: dict[str, type[ObjectiveOptions]] = {
    "mlm": MaskedLMOptions,
    "mlm_nsp": MaskedLMWithNextSentenceOptions,
    "electra": ElectraOptions,
    "causal": CausalLMOptions,
}

if TYPE_CHECKING:
    AnyObjective = ObjectiveOptions
else:
    AnyObjective = one_of(OBJECTIVES)

__all__ = [
    "OBJECTIVES",
    "AnyObjective",
    "Inputs",
    "Learner",
    "Objective",
    "ObjectiveOptions",
    "Sample",
    "Scores",
    "Totals",
]
