"""From logits to the next token: pure functions, each a step of

    logits --repetition penalty--> --temperature--> --top-k--> --top-p--> probabilities --draw--> tokens

What is ruled out has the logit -inf. Shapes: B batch, V vocabulary.
"""

from collections.abc import Iterator, Sequence

import torch
from pydantic import Field
from torch import Tensor

from reforge.spec import Part, Problem


class SamplingOptions(Part):
    """How the next token is chosen.

    temperature: logits are divided by it; below 1 likely tokens become likelier
    top_k: draw from so many of the likeliest tokens; 0 from all
    top_p: draw from the fewest tokens that have this probability together; 1 from all
    repetition_penalty: above 1 tokens that stand in the text already become less likely
    greedy: always the likeliest token
    """

    temperature: float = Field(1.0, gt=0)
    top_k: int = Field(0, ge=0)
    top_p: float = Field(1.0, gt=0, le=1)
    repetition_penalty: float = Field(1.0, gt=0)
    greedy: bool = False

    def problems(self) -> Iterator[Problem]:
        """What shapes chances has no effect where nothing is drawn."""
        for name in ("temperature", "top_k", "top_p"):
            value = getattr(self, name)
            if self.greedy and value != type(self).model_fields[name].default:
                yield Problem((name,), "has no effect with greedy, which takes the likeliest token", value)

    def choose(self, logits_BV: Tensor, seen_BV: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """The next token [B] of each row, drawn with its own generator; `seen_BV` is True at tokens of its text."""
        logits_BV = penalise_repetition(logits_BV, seen_BV, self.repetition_penalty)
        if self.greedy:
            return logits_BV.argmax(-1)
        logits_BV = keep_top_k(logits_BV / self.temperature, self.top_k)
        return draw(keep_top_p(logits_BV, self.top_p).softmax(-1), generators)


def penalise_repetition(logits_BV: Tensor, seen_BV: Tensor, penalty: float) -> Tensor:
    """Logits of seen tokens divided by `penalty` (Keskar et al. 2019, section 4.1, https://arxiv.org/abs/1909.05858).

    Negative ones are multiplied by it: divided, they would become likelier.
    """
    penalised_BV = torch.where(logits_BV > 0, logits_BV / penalty, logits_BV * penalty)
    return torch.where(seen_BV, penalised_BV, logits_BV)


def keep_top_k(logits_BV: Tensor, k: int) -> Tensor:
    """The `k` highest logits, of equal ones as many as fit; 0 keeps all (Fan et al. 2018)."""
    if k == 0 or k >= logits_BV.shape[-1]:
        return logits_BV
    top = logits_BV.topk(k, dim=-1)
    return torch.full_like(logits_BV, -torch.inf).scatter(-1, top.indices, top.values)


def keep_top_p(logits_BV: Tensor, p: float) -> Tensor:
    """The fewest tokens whose probabilities add up to at least `p` (Holtzman et al. 2020)."""
    if p == 1:
        return logits_BV
    ordered_BV, order_BV = logits_BV.sort(dim=-1, descending=True, stable=True)
    probs_BV = ordered_BV.softmax(-1)
    enough_BV = probs_BV.cumsum(-1) - probs_BV >= p  # what stands before is enough without this one
    return logits_BV.masked_fill(torch.zeros_like(enough_BV).scatter(-1, order_BV, enough_BV), -torch.inf)


def draw(probs_BV: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """A token [B] from each row's probabilities with the row's own generator: no row's draws move another's."""
    probs_BV = probs_BV.to(generators[0].device)
    rows = zip(probs_BV, generators, strict=True)
    return torch.cat([torch.multinomial(probs_V, 1, generator=generator) for probs_V, generator in rows])
