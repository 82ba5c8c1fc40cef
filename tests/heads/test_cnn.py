import pytest
import torch
from torch import Tensor

from reforge.heads import Outputs
from reforge.heads.cnn import CNNHead, CNNOptions


def highest(head: CNNHead, place: int, states_TD: Tensor) -> Tensor:
    """The highest values [F] of one convolution over a text: every window around one of its tokens, one at a time."""
    convolution = head.convolutions[place]
    size, (length, width) = convolution.kernel_size[0], states_TD.shape
    before, after = torch.zeros(size // 2, width), torch.zeros(size, width)
    padded = torch.cat((before.to(states_TD), states_TD, after.to(states_TD)))
    windows = [padded[token : token + size] for token in range(length)]
    values = [
        (convolution.weight * window.T).sum((1, 2)) + convolution.bias  # weight [F, D, size]
        for window in windows
    ]
    return torch.stack(values).amax(0).clamp(min=0)


@pytest.mark.parametrize("sizes", [(3, 4, 5), (1, 2), (7,)])
def test_equals_windows_one_by_one(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    options = CNNOptions(kernel_sizes=sizes, num_filters=6)
    head = options.build(5, Outputs(2, "text", ("no", "yes"))).eval().double()
    assert isinstance(head, CNNHead)
    lengths = [9, 4, 1]
    states, real = torch.randn(3, 9, 5, dtype=torch.float64), torch.arange(9) < torch.tensor(lengths)[:, None]
    rows = [
        torch.cat([highest(head, place, states[row, :length]) for place in range(len(sizes))])
        for row, length in enumerate(lengths)
    ]
    torch.testing.assert_close(head(states, real), head.out(torch.stack(rows)))


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((), "kernel_sizes: must name at least one size; got []"),
        ((3, 0), "kernel_sizes[1]: must be an integer >= 1; got 0"),
        ((3, 4, 3), "kernel_sizes[2]: must stand there only once; got 3"),
    ],
)
def test_impossible_kernels_are_problems(sizes: tuple[int, ...], said: str) -> None:
    assert [str(problem) for problem in CNNOptions(kernel_sizes=sizes).problems()] == [said]
