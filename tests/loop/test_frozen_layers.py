"""Models whose lower layers are frozen, on two real processes: what is trained gets the mean of both gradients."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from reforge.loop import World
from reforge.loop.train import average_gradients, wrap
from reforge.models import Frame, freeze
from reforge.models.reformer import ReformerOptions
from reforge.models.transformer import TransformerOptions

pytestmark = pytest.mark.slow  # starts processes

VOCAB, BLOCK = 50, 64
SMALL: dict[str, Any] = {"d_model": 32, "depth": 4, "num_heads": 2, "bucket_size": 8, "num_hashes": 2}


def ids() -> Tensor:
    return torch.randint(5, VOCAB, (4, BLOCK), generator=torch.Generator().manual_seed(1))


class Scored(nn.Module):
    """A backbone and a head, as fine-tuning has them."""

    def __init__(self, options: ReformerOptions | TransformerOptions, trainable: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = options.build(Frame(VOCAB, BLOCK)).double()
        self.head = nn.Linear(32, 3).double()
        freeze(self.backbone, trainable)

    def forward(self, ids_BT: Tensor) -> Tensor:
        return self.head(self.backbone(ids_BT)).square().mean()  # type: ignore[no-any-return]


CASES = [
    (ReformerOptions(**SMALL, attention="exact", memory=memory, weight_tie=tied), trainable)
    for memory in ("keep", "checkpoint", "reversible")
    for tied in (False, True)
    for trainable in (0, 2)
] + [(TransformerOptions(d_model=32, depth=4, num_heads=2, memory="checkpoint"), 2)]


def work(rank: int, size: int, place: Path) -> None:
    """Each case's gradients from a rank's half of the rows, averaged as the loop would; left in `place`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=size)
    world, found = World(rank, size), []
    for options, trainable in CASES:
        model = Scored(options, trainable)
        wrapped = wrap(model, world)
        for _ in range(2):  # DDP lays out its buckets anew after the first pass
            model.zero_grad()
            wrapped(ids()[2 * rank : 2 * rank + 2]).backward()
        if wrapped is model:
            average_gradients(model, world)
        found.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.save(found, place / f"rank-{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_average_what_is_trained(tmp_path: Path) -> None:
    mp.spawn(work, args=(2, tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt") for rank in range(2))
    for (options, trainable), gradients, others in zip(CASES, first, second, strict=True):
        model = Scored(options, trainable)
        model(ids()).backward()
        expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        assert gradients.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-9, atol=1e-9)
            assert torch.equal(gradients[name], others[name])
