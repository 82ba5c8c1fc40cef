"""What a step costs more where the run is kept in a bucket: the same run on disk and in a bucket, in turns.

    .venv/bin/python benchmarks/mirror.py

The S3 server (moto's) is another process of this machine, so on the clock what it computes counts as well, and whatever
else the machine does. What bringing checkpoints away takes of this process's own processor time depends on neither.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch
from raylets import free_port

from reforge.batches import prepare
from reforge.loop import StepReport
from reforge.runs import PretrainJob, pretrain
from reforge.runs.store import Store
from reforge.spec import load_source, validate

SPEC = """\
kind: pretrain
name: mirror
data: {corpus: {kind: text, path: topics.txt, documents_by: blank_line}, block_tokens: 128}
tokenizer: {kind: wordpiece, vocab_size: 4000}
model: {kind: transformer, d_model: 128, depth: 2, num_heads: 2}
objective: {kind: mlm}
train: {global_batch_tokens: 512, micro_batch_tokens: 512, precision: fp32, eval_blocks: 4}
"""


class Run(NamedTuple):
    """Seconds of a step, checkpoints being written among them, on the clock and of this process's processor time.

    rest: seconds from the last step to the end
    """

    step: float
    cpu: float
    rest: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="runs of each sort (default: 7)")
    parser.add_argument("--steps", type=int, default=60, help="of each run (default: 60)")
    parser.add_argument("--checkpoint-every", type=int, default=15, help="steps (default: 15)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="reforge-mirror-") as name:
        server = start_server()
        try:
            measure(Path(name), options)
        finally:
            server.terminate()
            server.wait()


def start_server() -> "subprocess.Popen[bytes]":
    """A server, which s3:// leads to from now on."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    keys = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ.update(keys, AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}")
    import s3fs

    while server.poll() is None:
        try:
            s3fs.S3FileSystem(skip_instance_cache=True).mkdir("runs")
        except Exception:  # it is not up yet
            time.sleep(0.5)
        else:
            return server
    raise SystemExit("moto's server does not start")


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Run the pairs and print what they took."""
    from pydoc_data.topics import topics

    (folder / "topics.txt").write_text("\n\n".join(topics.values()), encoding="utf-8")
    (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    words = [f"data.corpus.path={folder}/topics.txt", f"run.cache={folder}/cache", f"train.max_steps={options.steps}"]
    words += [f"train.checkpoint_every_steps={options.checkpoint_every}", f"train.eval_every_steps={options.steps}"]

    def job(storage: str, number: int) -> PretrainJob:
        given = [*words, f"run.storage={storage}", f"name=run-{number}"]
        return validate(PretrainJob, load_source(folder / "spec.yaml", given))

    first = job(f"{folder}/runs", 0)
    prepared = prepare(first.data, first.tokenizer, folder / "prepared", lambda line: None).folder
    take(first, prepared)  # what is done once in a process
    pairs = []
    for number in range(1, options.repeats + 1):
        both = [f"{folder}/runs", "s3://runs/runs"]
        # Each is the first of a pair as often as the other.
        taken = {where: take(job(where, number), prepared) for where in (both if number % 2 else both[::-1])}
        pairs.append([taken[where] for where in both])
        shown = [f"{run.step:.4f} s, {run.cpu:.4f} CPU s a step, {run.rest:.2f} s at the end" for run in pairs[-1]]
        print(f"{number}: disk {shown[0]}; bucket {shown[1]}", flush=True)
    there = job("s3://runs/runs", 1)
    size = sum(len(Store(there.folder).read(name) or b"") for name in Store(there.folder).names("checkpoints"))
    print(f"checkpoints kept   {size / 2**20:.0f} MiB, one written every {options.checkpoint_every} steps")
    for place, runs in zip(("disk", "bucket"), zip(*pairs, strict=True), strict=True):
        wall, cpu = (statistics.median(run[column] for run in runs) for column in (0, 1))
        print(f"{place:<18} {wall:.4f} s, {cpu:.4f} CPU s a step")
    for column, name in enumerate(("clock", "processor")):
        ratios = sorted(bucket[column] / disk[column] for disk, bucket in pairs)
        spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}"
        print(
            f"bucket / disk      {statistics.median(ratios):.3f} by the {name}, median of {len(ratios)} pairs, {spread}"
        )


def take(job: PretrainJob, prepared: Path) -> Run:
    """Train a job to its end."""
    times: list[tuple[float, float]] = []

    def on_report(report: StepReport) -> None:
        times.append((time.perf_counter(), time.process_time()))

    pretrain(job, job.folder, prepared, torch.device("cpu"), on_report=on_report)
    ended = time.perf_counter()
    # The last step evaluates, the first sets libraries up.
    wall, cpu = ((times[-2][column] - times[0][column]) / (len(times) - 2) for column in (0, 1))
    return Run(wall, cpu, ended - times[-1][0])


if __name__ == "__main__":
    main()
