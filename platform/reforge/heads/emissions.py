"""Scores of tags, each unit's on its own: what the linear and the CRF tagger have in common.

    states [B, S, D] --BiLSTM, where wanted--> W --dropout, dense, GELU--> 2 W --dropout, dense--> emissions [B, S, K]

W is D, or with an LSTM the width of both its directions.
"""

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from reforge.heads.layers import Scorer, dense, real_states
from reforge.spec import Part


class LSTMOptions(Part):
    """A bidirectional LSTM before a tagger's own layers (Huang et al. 2015, https://arxiv.org/abs/1508.01991).

    hidden_size: of each direction
    num_layers: one on top of the other, the head's dropout between them
    """

    hidden_size: int = Field(256, ge=1)
    num_layers: int = Field(1, ge=1)


def emission_values(d_model: int, lstm: LSTMOptions | None) -> int:
    """Estimate of how many values a training step keeps for each unit: of `Emissions`, counted with torch's hooks."""
    width = 2 * lstm.hidden_size if lstm else d_model
    return 8 * width + (33 * lstm.hidden_size * lstm.num_layers if lstm else 0)


class BiLSTM(nn.Module):
    """Reads each row's real units in both directions, in the precision of its weights whatever autocast says."""

    def __init__(self, d_model: int, options: LSTMOptions, dropout: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(
            d_model,
            options.hidden_size,
            options.num_layers,
            batch_first=True,
            dropout=dropout if options.num_layers > 1 else 0.0,
            bidirectional=True,
        )
        self.width = 2 * options.hidden_size

    def forward(self, states_BSD: Tensor, real_BS: Tensor) -> Tensor:
        """Both directions' states [B, S, W]; 0 where nothing is real."""
        # Packing wants the lengths on the host, so a GPU waits here, and no length of 0: an empty row counts as 1 unit.
        lengths_B = real_BS.sum(1).clamp(min=1).cpu()
        states_BSD = states_BSD.to(next(self.lstm.parameters()).dtype)
        with torch.autocast(states_BSD.device.type, enabled=False):
            packed = pack_padded_sequence(states_BSD, lengths_B, batch_first=True, enforce_sorted=False)
            out_BSW, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=real_BS.shape[1])
        return real_states(out_BSW, real_BS)


class Emissions(nn.Module):
    """The layers from states to scores of tags."""

    def __init__(self, d_model: int, num_tags: int, dropout: float, lstm: LSTMOptions | None) -> None:
        super().__init__()
        self.lstm = BiLSTM(d_model, lstm, dropout) if lstm else None
        width = self.lstm.width if self.lstm else d_model
        self.layers = nn.Sequential(
            nn.Dropout(dropout), dense(width, 2 * width), nn.GELU(), nn.Dropout(dropout), Scorer(2 * width, num_tags)
        )

    def forward(self, states_BSD: Tensor, real_BS: Tensor) -> Tensor:
        """Emissions [B, S, K]."""
        states = self.lstm(states_BSD, real_BS) if self.lstm is not None else states_BSD
        emissions_BSK: Tensor = self.layers(states)
        return emissions_BSK
