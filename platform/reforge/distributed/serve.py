"""`--serve`: a run behind HTTP on this machine, from its start to Ctrl-C."""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import torch

from reforge.distributed.arguments import say
from reforge.distributed.cluster import local_resources, start_if_none
from reforge.runs.predictor import load_predictor
from reforge.spec import UserError

LOOK_SECONDS = 1.0


def serve_run(run: Path, host: str, port: int) -> None:
    """Answer HTTP for the run until interrupted.

    Raises UserError, before anything starts, where the run cannot be loaded, the port is taken, or Ray Serve is not
    installed.
    """
    with serving(run, host, port) as address:
        say(f"POST {address}/predict, GET {address}/health; Ctrl-C ends")
        while True:
            time.sleep(LOOK_SECONDS)


@contextmanager
def serving(run: Path, host: str, port: int) -> Iterator[str]:
    """Answer HTTP as long as the context lasts; gives the address. Nothing of it stays behind."""
    serve = _ray_serve()
    load_predictor(run, torch.device("cpu"))
    _check_free(host, port)
    from reforge.distributed.answering import application  # here: what it imports is the extra

    # Always a Ray of its own: what ends with it would take others' applications along on a shared cluster.
    assert not ray.is_initialized(), "a server is a process by itself"
    resources = local_resources()
    quiet = {"log_level": "ERROR", "enable_access_log": False}
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        start_if_none(resources)
        serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port}, logging_config=quiet)
        serve.run(application(str(run.resolve()), resources.num_cpus, min(1, resources.num_gpus)))
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        ray.shutdown()


def _ray_serve() -> Any:
    try:
        from ray import serve
    except ImportError as error:
        raise UserError(
            f"--serve needs Ray Serve, which is an extra: pip install 'reforge[serve]' ({error})"
        ) from error
    return serve


def _check_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error
            raise UserError(f"cannot listen on {host}:{port}: {reason} (--host and --port choose another)") from error
