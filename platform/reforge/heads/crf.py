"""A linear-chain conditional random field over tags (Lafferty et al. 2001).

    states --Emissions--> emissions [B, S, K] --chain--> log-likelihood of the gold tags, or the best tags

What IOB2 forbids has no part in the likelihood and never comes out; other tags may follow each other freely.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from reforge.heads.chain import Chain, best_paths, log_partition, path_scores
from reforge.heads.emissions import Emissions, LSTMOptions, emission_values
from reforge.heads.head import HeadOptions, Level, Outputs, TokenHead
from reforge.heads.layers import wide
from reforge.heads.scheme import Scheme, mended, scheme_of

# The score of a forbidden transition in the likelihood: exp of it is 0, and unlike -inf it makes no NaN in gradients.
FORBIDDEN = -1.0e4


class CRFOptions(HeadOptions):
    """A tagger that scores whole sequences of tags, on the emissions of the linear tagger.

    lstm: a bidirectional LSTM over the units before they are tagged
    """

    kind: Literal["crf"] = "crf"
    lstm: LSTMOptions | None = None
    levels: ClassVar[frozenset[Level]] = frozenset({"token"})

    def build(self, d_model: int, outputs: Outputs) -> "CRFHead":
        """A tagger; the names of the tags say what may follow what."""
        assert outputs.level in self.levels, outputs
        return CRFHead(self, d_model, outputs)

    def activation_values(self, d_model: int, outputs: Outputs) -> int:
        """The emissions' layers, and the scores of all pairs of tags."""
        return emission_values(d_model, self.lstm) + 4 * outputs.size**2


class CRFHead(TokenHead):
    """Emissions, and the scores of first tags, of pairs of neighbours and of last tags, all 0 at the start."""

    not_first_K: Tensor
    not_after_KK: Tensor
    begins_K: Tensor

    def __init__(self, options: CRFOptions, d_model: int, outputs: Outputs) -> None:
        super().__init__()
        self.emissions = Emissions(d_model, outputs.size, options.dropout, options.lstm)
        self.start_K = nn.Parameter(torch.zeros(outputs.size))
        self.transitions_KK = nn.Parameter(torch.zeros(outputs.size, outputs.size))
        self.end_K = nn.Parameter(torch.zeros(outputs.size))
        # Follows from the names: not saved.
        for name, values in scheme_of(outputs.names, outputs.size)._asdict().items():
            self.register_buffer(name, values, persistent=False)

    def forward(self, states_BSD: Tensor, real_BS: Tensor) -> Tensor:
        """Emissions [B, S, K]: a unit's tags on their own, which `loss_sum` and `decode` join to sequences."""
        emissions_BSK: Tensor = self.emissions(states_BSD, real_BS)
        return emissions_BSK

    def loss_sum(
        self,
        scores_BSK: Tensor,
        tags_BS: Tensor,
        real_BS: Tensor,
        weights_K: Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """Negative log-likelihood of the rows' gold tags, in nats, summed over the rows.

        A row starts where its text or its window starts: a gold I-X there, or after another type, is taken for B-X.
        Weights and smoothing are of single units; a sequence has none.
        """
        assert weights_K is None and not label_smoothing, "not supported: see supports_class_weights"  # noqa: PT018
        # float64, because two sums over a whole text nearly cancel; autocast leaves it alone.
        chain, emissions_BSK = self.chain(FORBIDDEN).to(torch.float64), scores_BSK.double()
        tags_BS = mended(self.scheme, tags_BS.masked_fill(~real_BS, 0))
        gold_B = path_scores(chain, emissions_BSK, tags_BS, real_BS)
        return (log_partition(chain, emissions_BSK, real_BS) - gold_B).sum().to(wide(scores_BSK).dtype)

    def decode(self, scores_BSK: Tensor, real_BS: Tensor) -> Tensor:
        """The tags [B, S] of the likeliest sequence of each row; 0 where nothing is real.

        The rows may be stitched from several windows' scores, of any length and on any device. Time and memory go with
        B x S: rows of like length belong together.
        """
        scores_BSK = wide(scores_BSK)
        return best_paths(self.chain(float("-inf")).to(scores_BSK), scores_BSK, real_BS)

    @property
    def scheme(self) -> Scheme:
        """What the tags' names forbid."""
        return Scheme(self.not_first_K, self.not_after_KK, self.begins_K)

    def chain(self, forbidden: float) -> Chain:
        """The learnt scores, `forbidden` in the place of those that the scheme forbids."""
        return Chain(
            self.start_K.masked_fill(self.not_first_K, forbidden),
            self.transitions_KK.masked_fill(self.not_after_KK, forbidden),
            self.end_K,
        )
