import torch
from torch import nn

from reforge.heads.emissions import BiLSTM, LSTMOptions


def test_an_lstm_reads_each_row_in_both_directions_as_far_as_it_goes() -> None:
    torch.manual_seed(0)
    module = BiLSTM(4, LSTMOptions(hidden_size=3, num_layers=2), dropout=0.0)
    states, real = torch.randn(3, 5, 4), torch.arange(5) < torch.tensor([[2], [5], [0]])
    got = module(states, real)
    assert got.shape == (3, 5, module.width)
    for row, length in ((0, 2), (1, 5)):
        expected, _ = module.lstm(states[row : row + 1, :length])
        torch.testing.assert_close(got[row, :length], expected[0])
    assert not got[~real].any()


def test_dropout_stands_between_layers_only() -> None:
    lstms = [BiLSTM(4, LSTMOptions(hidden_size=3, num_layers=n), dropout=0.5).lstm for n in (1, 2)]
    assert [lstm.dropout for lstm in lstms] == [0.0, 0.5]
    assert all(isinstance(lstm, nn.LSTM) and lstm.bidirectional for lstm in lstms)
