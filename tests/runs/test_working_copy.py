"""Runs that are kept on a real S3 server: to the end, killed, stopped, on a slow way there and on none."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from upath import UPath

import reforge
from reforge.loop import StepReport
from reforge.runs import PretrainJob, RunFolder, RunStatus, lease, pretrain, store
from reforge.runs.lease import Lease
from reforge.runs.stop_request import Stopped, StopRequest
from reforge.runs.store import Store, check_storage
from reforge.spec import UserError
from reforge.tracking import read_metrics

pytestmark = pytest.mark.slow  # trains a small model again and again, and starts processes
CPU = torch.device("cpu")
Job = Callable[..., PretrainJob]
STEPS = ("train.max_steps=6", "train.checkpoint_every_steps=2", "train.eval_every_steps=6", "scale.num_workers=1")


class Road:
    """A way to a server that can be made slow, and closed."""

    def __init__(self, host: str, port: int) -> None:
        self.bytes_per_second, self.is_open = float("inf"), True
        self._server = (host, port)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Cut all connections and let none through."""
        self.is_open = False
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            near, _ = self._listening.accept()
            if not self.is_open:
                near.close()
                continue
            far = socket.create_connection(self._server)
            self._ends += [near, far]
            threading.Thread(target=self._carry, args=(near, far), daemon=True).start()
            threading.Thread(target=self._carry, args=(far, near), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while part := source.recv(1 << 14):
                target.sendall(part)
                time.sleep(len(part) / self.bytes_per_second)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def road(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Road]:
    """The way to the S3 server; who fails on it is not long in trying again."""
    host, port = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://").split(":")
    road = Road(host, int(port))
    monkeypatch.setenv("AWS_ENDPOINT_URL", road.url)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(type(s3), "retries", 1)
    type(s3).clear_instance_cache()
    yield road
    type(s3).clear_instance_cache()


@pytest.fixture(scope="module")
def bucket(s3: Any) -> Any:
    """The file system, with a bucket in it."""
    s3.mkdir("runs")
    return s3


@pytest.fixture(scope="module")
def undisturbed(tiny_job: Job, prepared_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on this machine's disk."""
    job = tiny_job(*STEPS, f"run.storage={tmp_path_factory.mktemp('disk')}")
    pretrain(job, job.folder, prepared_folder, CPU)
    return RunFolder(job.folder)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is loaded without a job is kept below the user's home."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def there(tiny_job: Job, tmp_path: Path, bucket: Any) -> Job:
    """A function from overrides to the same job, kept in the bucket."""
    name = tmp_path.name.replace("_", "-")
    shared = (*STEPS, f"run.storage=s3://runs/{name}", f"run.cache={tmp_path}/cache")
    return lambda *overrides: tiny_job(*shared, *overrides)


def run(job: PretrainJob, prepared: Path, on_report: Callable[[StepReport], None] = lambda report: None) -> list[str]:
    """Train a job; what it said."""
    said: list[str] = []
    pretrain(job, job.folder, prepared, CPU, lambda event: said.append(str(event.get("say", ""))), on_report)
    return [line for line in said if line]


def assert_like(job: PretrainJob, local: RunFolder) -> None:
    """The run in the bucket has what the local one has."""
    there = RunFolder(job.folder)
    assert there.weights.read_bytes() == local.weights.read_bytes()
    assert there.status(job) is RunStatus.FINISHED
    assert visible(Store(job.folder).names()) == visible(
        {path.relative_to(local.path).as_posix() for path in local.path.rglob("*") if path.is_file()}
    )
    copy = local.path.parent / f"metrics-of-{job.name}.jsonl"
    copy.write_bytes(there.metrics.read_bytes())
    losses, expected = ([row["train/loss"] for row in read_metrics(file)] for file in (copy, local.metrics))
    assert losses == expected


def visible(names: set[str]) -> set[str]:
    """Those files of a run that every such run has: which checkpoint beside the last is there is a matter of time."""
    apart = ("tensorboard/", "checkpoints/", ".")
    last = {name for name in names if "step-00000006" in name}
    return {name for name in names if not name.startswith(apart)} | last


def test_a_run_in_a_bucket_is_the_run_on_a_disk(
    there: Job, undisturbed: RunFolder, prepared_folder: Path, tmp_path: Path
) -> None:
    job = there()
    check_storage(job.run.folder)
    run(job, prepared_folder)
    assert_like(job, undisturbed)
    assert not list((tmp_path / "cache" / "runs").iterdir()), "all of it is in the bucket"
    curves = EventMultiplexer()
    curves.AddRunsFromDirectory(str(job.folder / "tensorboard")).Reload()  # as `tensorboard --logdir s3://...` does
    assert len(curves.Tensors(".", "train/loss")) == 6
    model, tokenizer = reforge.load(str(job.folder))
    ids = torch.tensor([tokenizer.encode("the value of the list").ids])
    torch.testing.assert_close(model.logits(ids), reforge.load(undisturbed.path).model.logits(ids))
    with pytest.raises(UserError, match=r"holds a run of another spec:\n  optimizer\.lr: was 0\.003, now 0\.1"):
        run(there("optimizer.lr=0.1"), prepared_folder)


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from reforge.runs import PretrainJob, pretrain
from reforge.runs.store import Store
torch.set_num_threads(1)
job = PretrainJob.model_validate_json(Path(sys.argv[1]).read_text())
def on_report(report):
    if report.step == 5:
        while not any("00000004/manifest.json" in name for name in Store(job.folder).names()):
            pass
        os.kill(os.getpid(), signal.SIGKILL)
pretrain(job, job.folder, Path(sys.argv[2]), torch.device("cpu"), on_report=on_report)
"""


def test_killed_it_goes_on_on_another_machine(
    there: Job, undisturbed: RunFolder, prepared_folder: Path, tmp_path: Path
) -> None:
    job = there()
    (tmp_path / "job.json").write_text(job.model_dump_json())
    command = [sys.executable, "-c", KILLED, tmp_path / "job.json", prepared_folder]
    assert subprocess.run(command).returncode == -signal.SIGKILL
    shutil.rmtree(tmp_path / "cache")
    assert "going on from step 4 of 6" in run(job, prepared_folder)
    assert_like(job, undisturbed)


def test_a_damaged_checkpoint_is_passed_over(
    there: Job, undisturbed: RunFolder, prepared_folder: Path, bucket: Any
) -> None:
    run(there("train.stop_at_step=4"), prepared_folder)
    job = there()
    weights = f"{job.folder.path}/checkpoints/step-00000004/model.safetensors"  # type: ignore[attr-defined]
    content = bytearray(bucket.cat(weights))
    content[-1] ^= 1
    bucket.pipe(weights, bytes(content))
    said = run(job, prepared_folder)
    assert "going on from step 2 of 6" in said
    assert any("step-00000004 is not complete (model.safetensors has other content" in line for line in said)
    assert_like(job, undisturbed)


def test_asked_to_stop_it_is_in_the_bucket_and_goes_on(
    there: Job, undisturbed: RunFolder, prepared_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.05)
    job = there()
    assert not StopRequest(job.folder).make(), "there is no run to ask"

    def ask(report: StepReport) -> None:
        if report.step == 3:
            assert StopRequest(job.folder).make()
            while Store(job.folder).read("stop") is not None:
                time.sleep(0.02)

    with pytest.raises(Stopped, match=r"stopped after step [45] of 6"):
        run(job, prepared_folder, ask)
    assert {"step-00000004", "step-00000005"} & {path.name for path in (job.folder / "checkpoints").iterdir()}
    run(job, prepared_folder)
    assert RunFolder(job.folder).weights.read_bytes() == undisturbed.weights.read_bytes()


def test_training_does_not_wait_for_a_slow_store(there: Job, prepared_folder: Path, road: Road, tmp_path: Path) -> None:
    job = there("train.max_steps=16", "train.checkpoint_every_steps=1", "train.eval_every_steps=16")
    outgoing, ended = [], [0.0]

    def look(report: StepReport) -> None:
        road.bytes_per_second = 400_000.0  # a checkpoint has some 500 kB
        outgoing.append(len(list((tmp_path / "cache" / "runs").glob("*/.outgoing/step-*"))))
        ended[0] = time.monotonic()

    run(job, prepared_folder, look)
    seconds = time.monotonic() - ended[0]
    assert 1 < max(outgoing) <= 3, "one under way, the newest and the best waiting"
    assert seconds > 1, "what was left is waited for at the end"
    assert outgoing[-1] >= 2, "the last step was made while earlier checkpoints were on their way"
    assert Store(job.folder).read("result.json")
    kept = {path.name for path in (job.folder / "checkpoints").iterdir()}
    assert "step-00000016" in kept
    assert len(kept) <= 2


def test_a_store_that_comes_back_is_waited_for(
    there: Job, undisturbed: RunFolder, prepared_folder: Path, road: Road
) -> None:
    job = there()

    def disturb(report: StepReport) -> None:
        if report.step == 1:
            road.close()
        if report.step == 5:
            time.sleep(1)  # the checkpoints until now have met a closed road
            road.is_open = True

    said = run(job, prepared_folder, disturb)
    assert any("cannot be reached" in line and "tried again for 300 s" in line for line in said)
    assert_like(job, undisturbed)


def test_a_store_that_is_gone_is_one_message_and_nothing_is_lost(
    there: Job, undisturbed: RunFolder, prepared_folder: Path, road: Road, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(lease, "LASTS_SECONDS", 1.0)  # it is this process that left the lock, and it lives
    job = there()

    def close(report: StepReport) -> None:
        if report.step == 3:
            road.close()
        if report.step == 5:
            time.sleep(3)  # the next checkpoint comes after the one of step 4 was given up

    with pytest.raises(UserError, match=r"s3://.*cannot be reached.*what was not brought there lies in .*cache/runs"):
        run(job, prepared_folder, close)
    road.is_open = True
    said = run(job, prepared_folder)
    assert any("which only this machine had, is in s3://" in line for line in said)
    assert RunFolder(job.folder).weights.read_bytes() == undisturbed.weights.read_bytes()


def test_whoever_comes_second_is_refused(there: Job, prepared_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BEAT_SECONDS", "LOOK_SECONDS", "WAIT_SECONDS"):
        monkeypatch.setattr(lease, name, 0.1)
    job = there()
    first = Lease.take(Store(job.folder), lambda: None, lambda line: None)
    with pytest.raises(UserError, match=r"s3://\S+/tiny is being written by another process \(process \d+ on "):
        run(job, prepared_folder)
    first.release()
    assert Store(job.folder).names() == set()


def test_where_nothing_can_be_kept_is_said_before_anything_starts(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^run.storage: s3://none/runs cannot be reached: .*bucket does not exist$"):
        check_storage(UPath("s3://none/runs"))  # type: ignore[arg-type]
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    type(s3).clear_instance_cache()
    with pytest.raises(UserError, match=r"^run.storage: s3://none/runs cannot be reached: .*credentials$"):
        check_storage(UPath("s3://none/runs"))  # type: ignore[arg-type]
    type(s3).clear_instance_cache()


def test_a_fine_tuning_in_a_bucket_of_a_run_in_a_bucket(
    undisturbed: RunFolder, finetune_job: Any, tmp_path: Path, bucket: Any
) -> None:
    from reforge.runs.finetune import finetune
    from reforge.runs.members import finished

    bucket.put(f"{undisturbed.path}/", "runs/pretrained/tiny/", recursive=True)
    shared = ("model=null", "tokenizer=null", "train.max_epochs=2", f"run.cache={tmp_path}/cache")
    job = finetune_job(*shared, "encoder.run=s3://runs/pretrained/tiny", "run.storage=s3://runs/finetunings")
    like = finetune_job(*shared, f"encoder.run={undisturbed.path}", f"run.storage={tmp_path}/disk")
    assert finetune(job, job.folder, CPU).metrics == finetune(like, like.folder, CPU).metrics
    assert finished(job) is not None
    assert RunFolder(job.folder).weights.read_bytes() == RunFolder(like.folder).weights.read_bytes()
    predictor = reforge.load_predictor(str(job.folder))
    assert predictor.kind == "classification"
    copies = [path.name for path in (tmp_path / "cache" / "runs").iterdir() if path.is_dir()]
    assert len(copies) == 1, "the encoder's files are kept for the next"
    assert copies[0].startswith("tiny-")
