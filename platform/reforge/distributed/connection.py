"""Connecting to a cluster that runs: what is wrong is known in seconds and said in one line.

Ray itself tries a dead address for more than a minute and a wrong token for twenty seconds, in lines of C++.
"""

import re
import sys
import time
from contextlib import nullcontext
from typing import Any

import grpc  # type: ignore[import-untyped]
import ray
from ray._private import state, worker
from ray._private.services import canonicalize_bootstrap_address
from ray.exceptions import AuthenticationError

from reforge.distributed.head import ask, watch_head
from reforge.distributed.private import QUIET, on_loopback
from reforge.spec import UserError

LOOPBACK = ("127.0.0.1:", "localhost:")

ANSWER_SECONDS = 10.0
# A node that is new installs everything first.
FIRST_NODE_SECONDS = 900.0

TOKEN_ADVICE = "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE name it (docs/cluster.md)"


def connect(address: str) -> None:
    """Connect this process to the Ray cluster at `address`, as RAY_ADDRESS has it. Raises UserError where it cannot."""
    found = check_head(address)
    # For 127.0.0.1 Ray takes this machine's other address, where a private head does not listen.
    keep = on_loopback() if found.startswith(LOOPBACK) else nullcontext()
    try:
        with keep:
            ray.init(address=found, **QUIET)
        worker.print_to_stdstream = say_briefly
    except ConnectionError as error:
        raise UserError(f"no Ray cluster answers at RAY_ADDRESS={address}: {error}") from error
    except AuthenticationError as error:
        raise UserError(without_token(address)) from error
    except ValueError as error:
        raise UserError(
            f"RAY_ADDRESS={address} is no address of a head, which is written HOST:6379; "
            "an http:// address takes jobs: ray job submit -- python jobs/pretrain.py"
        ) from error
    except RuntimeError as error:
        versions = re.findall(r"Ray: (\S+)\s+Python: (\S+)", str(error))
        if len(versions) != 2:
            raise
        theirs, ours = (f"Ray {ray} on Python {python}" for ray, python in versions)
        raise UserError(_other_version(address, theirs, ours)) from error
    watch_head(ray.get_runtime_context().gcs_address)


def say_briefly(message: dict[str, Any], ignore_prefix: bool) -> None:
    """Print what Ray has to say of the cluster (a node is dead, a process was killed), without its page of details."""
    for line in message["lines"]:
        sentences = re.split(r"(?<=\.) ", line.partition("\n")[0])
        print(f"ray: {' '.join(sentences[:2])}", file=sys.stderr, flush=True)


def cluster_total() -> dict[str, float]:
    """CPUs and GPUs of the cluster that this process is connected to, counting nodes that it may still start.

    Waits where there are none yet: a head without CPUs is up minutes before its first worker.
    """
    deadline = None
    while True:
        here, at_most = ray.cluster_resources(), state.state.get_max_resources_from_cluster_config() or {}
        total = {kind: max(here.get(kind, 0), at_most.get(kind, 0)) for kind in ("CPU", "GPU")}
        if total["CPU"]:
            return total
        if deadline is None:
            print("the cluster has no CPUs yet: waiting for its first worker node", file=sys.stderr, flush=True)
            deadline = time.monotonic() + FIRST_NODE_SECONDS
        if time.monotonic() > deadline:
            raise UserError(
                f"the Ray cluster has had no CPUs for {FIRST_NODE_SECONDS / 60:.0f} minutes; "
                "`ray status` on its head shows which nodes are there, `ray monitor cluster.yaml` why not"
            )
        time.sleep(1)


def check_head(address: str) -> str:
    """The address at which a head answers: HOST:PORT as given, or what Ray takes for it, or another kind of address.

    Raises UserError, within seconds, where none answers, or one that cannot be used from here.
    """
    if "://" in address or ":" not in address:
        return address
    refused = None
    for candidate in dict.fromkeys((address, canonicalize_bootstrap_address(address))):
        try:
            alive = ask(candidate, ANSWER_SECONDS)
        except AuthenticationError as error:
            raise UserError(without_token(address)) from error
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise UserError(without_token(address)) from error
            refused = refused or error
            continue
        if alive.ray_version != ray.__version__:
            raise UserError(_other_version(address, f"Ray {alive.ray_version}", f"Ray {ray.__version__}"))
        return str(candidate)
    assert refused is not None
    reason = (refused.details() or refused.code().name).rpartition("error: ")[2]
    raise UserError(f"no Ray cluster answers at RAY_ADDRESS={address}: {reason}") from refused


def without_token(address: str) -> str:
    """What to say where the cluster at RAY_ADDRESS does not take this process's token."""
    return f"the Ray cluster at RAY_ADDRESS={address} takes a token, and none or another was given; {TOKEN_ADVICE}"


def _other_version(address: str, theirs: str, ours: str) -> str:
    return f"the Ray cluster at RAY_ADDRESS={address} is {theirs}, this process is {ours}: they have to be the same"
