"""A run behind HTTP: the same answers as the command gives, errors in one line, and nothing left when it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from reforge.distributed.serve import serving
from reforge.runs.answers import answer_all
from reforge.runs.finetune import finetune
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.predictor import load_predictor
from reforge.runs.raw_examples import RawForm
from reforge.spec import UserError

ROOT = Path(__file__).parents[2]
START_SECONDS = 240
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")  # of Serve's own options
TEXTS = ["the soup was lovely", "the tea was cold and old", "the jam was the best"]


@pytest.fixture(scope="module", autouse=True)
def _serve_is_installed() -> None:
    pytest.importorskip("ray.serve", reason="Ray Serve is the extra serve", exc_type=ImportError)


@pytest.fixture(scope="module")
def run(finetune_job: Callable[..., FinetuneJob]) -> Path:
    """A run that tells good from bad."""
    job = finetune_job("name=served-classes", "train.max_epochs=1")
    finetune(job, job.folder, torch.device("cpu"))
    return job.folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(url: str, body: Any = None) -> tuple[int, Any]:
    """Status and JSON of a GET, or of a POST of `body`."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def alike(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer up to the rounding that another batch's padding changes."""
    return {**answer, "probabilities": pytest.approx(answer["probabilities"], abs=1e-6)}


@pytest.fixture(scope="module")
def server(run: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The script as its user starts it, once it answers; its address and process."""
    port = free_port()
    command = [sys.executable, "jobs/predict.py", str(run), "--serve", "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stderr is not None
        first = process.stderr.readline()
        assert first == f"POST http://127.0.0.1:{port}/predict, GET http://127.0.0.1:{port}/health; Ctrl-C ends\n"
        yield f"http://127.0.0.1:{port}", process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(START_SECONDS)


@pytest.mark.slow  # starts Ray
def test_http_answers_as_the_command_does_and_ends_cleanly(
    server: tuple[str, "subprocess.Popen[str]"], run: Path
) -> None:
    address, process = server
    predictor = load_predictor(run, torch.device("cpu"))
    examples = RawForm.of(predictor).examples({"texts": TEXTS})
    wanted = [alike(answer) for answer in answer_all(predictor, examples)]

    assert ask(f"{address}/health") == (200, {"status": "ok", "run": str(run), "task": "classification"})
    assert ask(f"{address}/predict", {"texts": TEXTS}) == (200, {"answers": wanted})
    assert ask(f"{address}/predict", {"text": TEXTS[0]}) == (200, wanted[0])
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda text: ask(f"{address}/predict", {"text": text}), TEXTS * 16))
    assert [(status, answer["text"]) for status, answer in found] == [(200, text) for text in TEXTS * 16]

    assert ask(f"{address}/predict", {"text": ""}) == (400, {"error": "1: the text is empty"})
    assert ask(f"{address}/predict", {"txt": "a"})[1] == {"error": "1: must be text, got 'txt'; did you mean text?"}
    status, said = ask(f"{address}/predict", b"{")
    assert status == 400
    assert said["error"].startswith("the body is not JSON")
    assert ask(f"{address}/predict")[0] == 405
    assert ask(f"{address}/else")[0] == 404

    assert len(members_of(process.pid)) > 3, "Ray's processes are seen"
    process.send_signal(signal.SIGINT)
    assert process.wait(START_SECONDS) == 130
    assert process.stderr is not None
    assert process.stderr.read() == "\ninterrupted\n"
    deadline = time.monotonic() + START_SECONDS
    while (left := members_of(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert left == []


def members_of(session: int) -> list[str]:
    """The commands of the processes that were started in a session and have not ended."""
    listed = subprocess.run(["ps", "-eo", "sid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    return [row[2] for row in rows if row[0] == str(session) and not row[1].startswith("Z")]


def test_what_cannot_be_served_is_said_before_anything_starts(run: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use"):
            serving(run, "127.0.0.1", port).__enter__()
    with pytest.raises(UserError, match=r"cannot listen on 192\.0\.2\.1:8000"):
        serving(run, "192.0.2.1", 8000).__enter__()
    with pytest.raises(UserError, match="there is no such run"):
        serving(tmp_path / "none", "127.0.0.1", free_port()).__enter__()


@pytest.mark.slow  # starts a process
def test_a_machine_without_the_extra_is_told_so(run: Path, tmp_path: Path) -> None:
    """As a process sees it in which starlette, which comes with the extra, cannot be imported."""
    (tmp_path / "starlette.py").write_text("raise ImportError('no starlette here')\n", encoding="utf-8")
    command = [sys.executable, "jobs/predict.py", str(run), "--serve", "--port", str(free_port())]
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert "--serve needs Ray Serve, which is an extra: pip install 'reforge[serve]'" in done.stderr
    assert "Traceback" not in done.stderr
