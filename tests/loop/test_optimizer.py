"""The learning rate as a function of the step and of where a parameter lies."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from reforge.loop.optimizer import OptimizerOptions, ScheduleOptions
from reforge.models import BACKBONES, Frame, freeze, parameter_depths


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, 0.853553, 0.5, 0.146447]),
    ],
)
def test_warm_up_then_decay(kind: str, expected: list[float]) -> None:
    options = OptimizerOptions(lr=2.0, schedule=ScheduleOptions(kind=kind, warmup_steps=2))
    assert [options.lr_at(step, 6) / 2 for step in range(1, 7)] == pytest.approx(expected, abs=1e-6)


def test_decays_to_the_final_fraction() -> None:
    schedule = ScheduleOptions(kind="linear", final_lr_fraction=0.1)
    assert schedule.lr_factor(1, 1000) == 1.0
    assert schedule.lr_factor(1000, 1000) == pytest.approx(0.1, abs=1e-3)


def test_a_warm_up_longer_than_the_run_only_warms_up() -> None:
    schedule = ScheduleOptions(kind="cosine", warmup_steps=500)
    assert [schedule.lr_factor(step, 200) for step in (1, 200)] == [0.002, 0.4]


def test_betas_are_checked() -> None:
    assert [p.path for p in OptimizerOptions(betas=(0.9, 1.0)).problems()] == [("betas",)]


class Model(nn.Module):
    """A backbone of three layers under a head that is named before it."""

    def __init__(self, kind: str = "transformer") -> None:
        super().__init__()
        self.head = nn.Linear(16, 3)
        self.backbone = BACKBONES[kind](d_model=16, depth=3, num_heads=2).build(Frame(20, 64))


def rates(model: nn.Module, optimizer: torch.optim.Optimizer, lr: float) -> dict[str, float]:
    """The learning rate of each parameter, as the loop sets it."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p]: lr * group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("kind", BACKBONES)
def test_by_default_there_are_two_groups_in_the_models_order(kind: str) -> None:
    model = Model(kind)
    decayed, kept = OptimizerOptions(weight_decay=0.1).build(model).param_groups
    assert [id(p) for p in decayed["params"]] == [id(p) for p in model.parameters() if p.ndim == 2]
    assert [id(p) for p in kept["params"]] == [id(p) for p in model.parameters() if p.ndim != 2]
    assert [(g["weight_decay"], g["lr_scale"]) for g in (decayed, kept)] == [(0.1, 1.0), (0.0, 1.0)]


@pytest.mark.parametrize("kind", BACKBONES)
def test_learning_rates_fall_from_layer_to_layer(kind: str) -> None:
    model = Model(kind)
    options = OptimizerOptions(lr=0.1, head_lr=0.3, layer_decay=0.5, weight_decay=0.1)
    optimizer = options.build(model)
    by_name = rates(model, optimizer, options.lr)
    depths = parameter_depths(model.backbone)
    assert by_name.keys() == dict(model.named_parameters()).keys()
    assert by_name["head.weight"] == by_name["head.bias"] == pytest.approx(0.3)
    for name, depth in depths.items():  # the final norm learns at lr, the highest layer at half of it
        assert by_name[f"backbone.{name}"] == pytest.approx(0.1 * 0.5 ** (4 - depth))
    for group in optimizer.param_groups:
        assert {p.ndim == 2 for p in group["params"]} <= {group["weight_decay"] > 0}


def test_what_is_frozen_is_not_optimised() -> None:
    model = Model()
    freeze(model.backbone, 1)
    by_name = rates(model, OptimizerOptions(layer_decay=0.9, head_lr=1e-3).build(model), 1.0)
    assert {name.split(".")[2] for name in by_name if ".layers." in name} == {"2"}
    assert not any("embeddings" in name for name in by_name)


def test_groups_take_steps_of_their_own_size() -> None:
    model = Model()
    options = OptimizerOptions(lr=0.01, head_lr=0.04, layer_decay=0.5, weight_decay=0.0)
    optimizer = options.build(model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for group in optimizer.param_groups:
        group["lr"] = options.lr_at(1, 10) * group["lr_scale"]
    optimizer.step()
    for name, rate in rates(model, optimizer, options.lr).items():  # Adam's first step is as long as its rate
        torch.testing.assert_close(
            before[name] - model.get_parameter(name), torch.full_like(before[name], rate), rtol=1e-3, atol=1e-6
        )


@pytest.mark.parametrize("options", [{"head_lr": 0.0}, {"layer_decay": 0.0}, {"layer_decay": 1.1}])
def test_rates_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        OptimizerOptions(**options)
