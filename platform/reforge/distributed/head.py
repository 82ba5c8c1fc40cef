"""A head that dies under a job: Ray ends the driver a minute later, in a line of C++; this says what to do, before it.

What the head knows dies with it, unless it keeps that in a Redis: then one that is back within the minute goes on.
"""

import os
import threading
import time

import grpc  # type: ignore[import-untyped]
import ray
from ray._private.grpc_utils import init_grpc_channel
from ray.core.generated.gcs_service_pb2 import CheckAliveReply, CheckAliveRequest
from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub
from ray.exceptions import AuthenticationError

from reforge.distributed.arguments import say

# Ray itself waits for 60 s (RAY_gcs_rpc_server_reconnect_timeout_s).
GONE_SECONDS = 50.0
_LOOK_EVERY_SECONDS = 3.0
_ANSWER_SECONDS = 5.0
_EXIT_CODE = 2


def watch_head(address: str) -> None:
    """From now on, and as long as this process is connected to the head at `address`, end it where that is gone."""
    threading.Thread(target=_watch, args=(address,), daemon=True, name="reforge-head").start()


def _watch(address: str) -> None:
    answered, has_said = time.monotonic(), False
    while _is_connected_to(address):
        if answers(address):
            answered, has_said = time.monotonic(), False
        silent = time.monotonic() - answered
        if silent > _ANSWER_SECONDS + _LOOK_EVERY_SECONDS and not has_said:
            has_said = True
            say(f"the head of the Ray cluster at {address} does not answer: waiting for it, up to {GONE_SECONDS:.0f} s")
        if silent > GONE_SECONDS:
            say(
                f"the head of the Ray cluster at {address} is gone, and this job with it; "
                "when there is a head again, the same command goes on from what is kept"
            )
            os._exit(_EXIT_CODE)  # Ray's own end would wait for the head
        time.sleep(_LOOK_EVERY_SECONDS)


def _is_connected_to(address: str) -> bool:
    return bool(ray.is_initialized() and ray.get_runtime_context().gcs_address == address)


def answers(address: str) -> bool:
    """Whether a head answers there, soon."""
    try:
        ask(address, _ANSWER_SECONDS)
    except (grpc.RpcError, AuthenticationError):
        return False
    return True


def ask(address: str, seconds: float) -> CheckAliveReply:
    """What the head at HOST:PORT says of itself; raises grpc.RpcError or AuthenticationError where it does not."""
    with init_grpc_channel(address) as channel:
        return NodeInfoGcsServiceStub(channel).CheckAlive(CheckAliveRequest(), timeout=seconds)
