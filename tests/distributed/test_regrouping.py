"""What is said of a group that failed, in a few words."""

import pytest
from ray.exceptions import ActorDiedError
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2.api.exceptions import TrainingFailedError

from reforge.distributed.regrouping import reason_of


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (WorkerGroupError("", {0: RuntimeError("peer"), 1: ActorDiedError()}), "rank 1: ActorDiedError"),
        (WorkerGroupError("", {1: RuntimeError("peer"), 0: RuntimeError("peer")}), "rank 0: RuntimeError"),
        (ControllerError(ValueError("the controller's own")), "ControllerError"),
    ],
)
def test_the_process_that_died_is_named_before_those_that_miss_it(error: TrainingFailedError, reason: str) -> None:
    assert reason_of(error) == reason
