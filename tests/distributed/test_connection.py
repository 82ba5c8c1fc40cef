"""A cluster that does not answer, or not to us: one line, in seconds. tests/e2e/test_submit.py has those that do."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc  # type: ignore[import-untyped]
import pytest
import ray
from ray.core.generated.gcs_service_pb2 import CheckAliveReply, CheckAliveRequest
from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceServicer, add_NodeInfoGcsServiceServicer_to_server

from reforge.distributed.connection import connect
from reforge.distributed.submission import submit
from reforge.spec import UserError

NOBODY = "127.0.0.1:1"  # a port that only root may open, and no service has


@contextmanager
def head_of_version(version: str) -> Iterator[str]:
    """A server that answers as a head of another version of Ray does; its address."""

    class Alive(NodeInfoGcsServiceServicer):  # type: ignore[misc]
        def CheckAlive(self, request: CheckAliveRequest, context: grpc.ServicerContext) -> CheckAliveReply:
            return CheckAliveReply(ray_version=version)

    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    add_NodeInfoGcsServiceServicer_to_server(Alive(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (NOBODY, "no Ray cluster answers at RAY_ADDRESS=127.0.0.1:1: "),
        ("no-such-host.invalid:6379", "no Ray cluster answers at RAY_ADDRESS=no-such-host.invalid:6379: "),
        ("http://127.0.0.1:8265", "RAY_ADDRESS=http://127.0.0.1:8265 is no address of a head"),
    ],
)
def test_no_cluster_at_the_address(address: str, said: str) -> None:
    started = time.monotonic()
    with pytest.raises(UserError) as caught:
        connect(address)
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - started < 15


def test_another_version_of_ray() -> None:
    with (
        head_of_version("2.48.0") as address,
        pytest.raises(UserError, match=rf"is Ray 2\.48\.0, this process is Ray {ray.__version__}"),
    ):
        connect(address)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", NOBODY])
def test_no_cluster_to_submit_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=f"no Ray cluster answers at RAY_ADDRESS={address}: "):
        submit(["python", "jobs/pretrain.py"], working_dir=None)
