"""Ray Train's trainer, with no process more than a job here needs: each imports Ray Train before a group can begin.

Left out are the manager of Ray's own data sets, of which there are none, and on a Ray of this job's own what looks
after a cluster that others use as well: placement groups of a controller that died, and the autoscaler.

The controller gets no more of a job than it needs: what is imported here at the top, it imports too, and torch is not.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ray
from ray.exceptions import GetTimeoutError
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.context import TrainRunContext
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from reforge.distributed.private import is_private

LEAVE_SECONDS = 30.0


class Trainer(DataParallelTrainer):  # type: ignore[misc]
    """Runs a function in every worker of a group."""

    def _create_default_callbacks(self) -> list[Any]:
        unused = (DatasetsCallback, PlacementGroupCleanerCallback) if is_private() else (DatasetsCallback,)
        return [one for one in super()._create_default_callbacks() if not isinstance(one, unused)]

    def _initialize_and_run_controller(self, **options: Any) -> Any:
        if is_private() and isinstance(options["scaling_policy"], FixedScalingPolicy):
            options["scaling_policy"] = _FixedHere(self.scaling_config)
        return super()._initialize_and_run_controller(**options)


class _FixedHere(FixedScalingPolicy):  # type: ignore[misc]
    """So many workers, and nobody is asked for nodes."""

    def after_controller_start(self, train_run_context: TrainRunContext) -> None:
        pass

    def _maybe_send_resource_request(self) -> None:
        pass


@dataclass
class MeetingConfig(BackendConfig):  # type: ignore[misc]
    """How torch's processes meet. timeout_s: of this, and of every collective"""

    backend: str
    timeout_s: float

    @property
    def backend_cls(self) -> type[Any]:
        return _MeetingBackend

    @property
    def train_func_context(self) -> type[Any]:
        from ray.train.torch.config import TorchConfigContextManager  # asked in the driver, used in the workers

        found: type[Any] = TorchConfigContextManager
        return found


class _MeetingBackend(Backend):  # type: ignore[misc]
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: MeetingConfig) -> None:
        worker_group.execute(_set_variables)
        meeting = worker_group.execute_single(0, _open_meeting)
        size, timeout = len(worker_group), timedelta(seconds=backend_config.timeout_s)
        joining = [
            worker_group.execute_single_async(rank, _join, meeting, backend_config.backend, rank, size, timeout)
            for rank in range(size)
        ]
        ray.get(joining)

    def on_shutdown(self, worker_group: Any, backend_config: MeetingConfig) -> None:
        with suppress(GetTimeoutError):
            ray.get(worker_group.execute_async(_leave, len(worker_group) > 1), timeout=LEAVE_SECONDS)


# What the workers do. They import torch for it; the controller, which sends them there, does not.


def _set_variables() -> None:
    from ray.train.torch.config import _set_torch_distributed_env_vars

    _set_torch_distributed_env_vars()


def _open_meeting() -> tuple[str, int]:
    from reforge.distributed.meeting import open_meeting

    meeting = open_meeting()
    return meeting.host, meeting.port


def _join(meeting: tuple[str, int], backend: str, rank: int, size: int, timeout: timedelta) -> None:
    from reforge.distributed.meeting import Meeting, join

    join(Meeting(*meeting), backend, rank, size, timeout)


def _leave(has_group: bool) -> None:
    from ray.train.torch.config import _shutdown_torch

    _shutdown_torch(destroy_process_group=has_group)
