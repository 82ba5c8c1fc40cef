"""Where tied layers and memories of single layers lie; the rest is in the contract of all backbones."""

from typing import Any

import pytest

from reforge.models import Frame, parameter_depths
from reforge.models.reformer import ReformerOptions
from reforge.models.transformer import TransformerOptions

SMALL: dict[str, Any] = {"d_model": 16, "depth": 3, "num_heads": 2}
FRAME = Frame(50, 64, num_segments=2)


def names_by_depth(**options: Any) -> dict[int, set[str]]:
    model = ReformerOptions(**SMALL, bucket_size=8, **options).build(FRAME)
    found: dict[int, set[str]] = {}
    for name, depth in parameter_depths(model).items():
        found.setdefault(depth, set()).add(name)
    return found


def test_tied_layers_lie_in_the_lowest_of_them() -> None:
    depths = names_by_depth(weight_tie=True, num_mem_kv=4)
    assert sum("toqk" in name or "w1" in name or "mem_kv" in name for name in depths[1]) == 4
    assert depths.keys() == {0, 1, 2, 3, 4}
    assert all(".net.norm." in name for layer in (2, 3) for name in depths[layer])


def test_a_layers_product_keys_are_the_layers() -> None:
    depths = names_by_depth(pkm_layers=(2,), pkm_num_keys=32)
    assert {depth for depth, names in depths.items() if any("values" in name for name in names)} == {2}


@pytest.mark.parametrize("options", [ReformerOptions(**SMALL, emb_dim=8), TransformerOptions(**SMALL, emb_dim=8)])
def test_the_projection_and_the_segments_are_below_the_layers(options: ReformerOptions | TransformerOptions) -> None:
    lowest = {name for name, depth in parameter_depths(options.build(FRAME)).items() if not depth}
    assert len(lowest) == 4  # tokens, segments, the projection's matrix and bias
    assert sum("segment" in name for name in lowest) == 1


def test_memories_of_layers_that_go_are_gone() -> None:
    options = ReformerOptions(**SMALL, bucket_size=8, pkm_layers=(1, 3), pkm_num_keys=32)
    lower = options.without_top(2)
    assert (lower.depth, lower.pkm_layers) == (1, (1,))
    assert list(lower.problems()) == []
    names = lower.build(FRAME).state_dict().keys()
    assert names < options.build(FRAME).state_dict().keys()


def test_a_size_by_name_without_its_top_stays_so_when_written_down() -> None:
    lower = TransformerOptions(size="base").without_top(4).with_dropout(0.1)
    again = TransformerOptions.model_validate_json(lower.model_dump_json())
    assert (again.depth, again.d_model, again.dropout) == (8, 768, 0.1)
    assert again == lower
