"""The learning rate as a function of the step."""

import pytest

from reforge.loop.optimizer import OptimizerOptions, ScheduleOptions


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
