"""What dies on a cluster of a head and two nodes: the job ends as if nothing had happened, or says what to do.

A cluster takes twenty seconds to start and a group of workers ten, so one job goes through several accidents, and is
compared once, bit for bit, with one that nothing happened to in processes without Ray.
"""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reforge.runs import PretrainJob, RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.long]  # starts clusters

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "tiny.yaml"
SPY = Path(sys.executable).with_name("py-spy")
sys.path.insert(0, str(ROOT / "benchmarks"))

from raylets import Raylets, raylets, wait_for  # noqa: E402

# Long enough for several accidents.
EVAL_EVERY = 20
LONG = (
    "train.max_steps=160", "train.checkpoint_every_steps=10", "train.keep_checkpoints=50", "train.eval_blocks=40",
    f"train.eval_every_steps={EVAL_EVERY}", "scale.max_failures=10",
)  # fmt: skip
SECONDS = 600.0  # for what takes a tenth of that on a machine that does nothing else

AssertEqual = Callable[[RunFolder, RunFolder], None]


@pytest.fixture(scope="module")
def undisturbed(
    tiny_job: Callable[..., PretrainJob],
    prepared_folder: Path,
    train_without_ray: Callable[[PretrainJob, Path], RunFolder],
) -> RunFolder:
    """The run on two processes without Ray, from start to end."""
    return train_without_ray(tiny_job("name=undisturbed-long", *LONG), prepared_folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Raylets]:
    """A head without CPUs and two nodes of one."""
    with raylets(2) as running:
        yield running


@pytest.fixture
def words(tiny_overrides: list[str], storage: Path, prepared_folder: Path, tmp_path: Path) -> list[str]:
    """The long job's, whose storage is a folder of its own; the corpus is prepared."""
    return [*tiny_overrides, f"run.storage={tmp_path / 'runs'}", f"run.prepared={storage / '_prepared'}", *LONG]


class Driver:
    """A job's command, as its user gives it."""

    def __init__(self, cluster: Raylets, command: list[str], folder: RunFolder) -> None:
        self.folder, self.began = folder, time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=cluster.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_steps(self, count: int) -> None:
        """Until there is a checkpoint so many steps beyond the newest one of now."""
        goal = newest_step(self.folder) + count
        self.wait_for(lambda: newest_step(self.folder) >= goal, f"step {goal}")

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something that must come while the job runs."""
        wait_for(lambda: condition() or self.process.poll() is not None, what, SECONDS)
        if self.process.poll() is not None:
            pytest.fail("\n".join(["the driver has ended", *self.process.communicate()]))

    def end(self) -> tuple[int, str, str]:
        """Exit code, output and errors."""
        out, err = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, out, err


def pretraining(cluster: Raylets, words: list[str], tmp_path: Path) -> Driver:
    return Driver(cluster, ["jobs/pretrain.py", str(TINY), "name=run", *words], RunFolder(tmp_path / "runs" / "run"))


def newest_step(folder: RunFolder) -> int:
    return max((int(path.name.partition("-")[2]) for path in folder.checkpoints.glob("step-*")), default=0)


def last_step_logged(folder: RunFolder) -> int:
    lines = folder.metrics.read_bytes().splitlines() if folder.metrics.exists() else []
    return next((json.loads(line)["step"] for line in reversed(lines) if line.endswith(b"}")), 0)


def writer_of(folder: RunFolder) -> int:
    return int((folder.path / ".lock").read_text().split()[1])


def workers_of(cluster: Raylets) -> list[int]:
    return [pid for node in cluster.nodes for pid in node.workers("RayTrainWorker")]


def is_in(function: str, pid: int) -> bool:
    """Whether a function of that name is on the stack of a process that is stopped."""
    stack = subprocess.run([str(SPY), "dump", "--nonblocking", "--pid", str(pid)], capture_output=True, text=True)
    assert "Thread" in stack.stdout, stack.stderr
    return re.search(rf"[ .]{function} \(", stack.stdout) is not None


def stop_in(function: str, driver: Driver, moment: Callable[[], bool]) -> int:
    """Stop (SIGSTOP) the process that writes the run, in a function of that name; its id."""
    while True:
        driver.wait_for(moment, f"a moment to stop in {function}")
        pid = writer_of(driver.folder)
        os.kill(pid, signal.SIGSTOP)
        if is_in(function, pid):
            return pid
        os.kill(pid, signal.SIGCONT)


def test_workers_nodes_and_the_driver_die_in_one_run(
    cluster: Raylets, words: list[str], tmp_path: Path, undisturbed: RunFolder, assert_equal: AssertEqual
) -> None:
    driver = pretraining(cluster, words, tmp_path)
    folder = driver.folder
    moments = {
        "take_step": lambda: last_step_logged(folder) % 10 == 5,
        "write_checkpoint": lambda: any(folder.checkpoints.glob(".writing-*")),
        "validate": lambda: last_step_logged(folder) % EVAL_EVERY == EVAL_EVERY - 1,
    }
    for function, moment in moments.items():
        driver.wait_for_steps(10)
        os.kill(stop_in(function, driver, moment), signal.SIGKILL)

    driver.wait_for_steps(10)
    cluster.kill(cluster.nodes[0])
    cluster.add()

    driver.wait_for_steps(10)
    driver.process.kill()
    code, _, err = driver.end()
    assert code == -signal.SIGKILL
    assert err.count("a worker was lost") == 4, err

    driver = pretraining(cluster, [*words, "scale.hang_timeout=20s"], tmp_path)
    driver.wait_for_steps(10)
    hanging = stop_in("take_step", driver, moments["take_step"])
    code, out, err = driver.end()
    assert code == 0, err
    assert err.count("a worker was lost") == 1, err
    assert not Path(f"/proc/{hanging}").exists()
    assert "Traceback" not in out + err
    assert_equal(folder, undisturbed)


def test_a_slow_node_and_storage_that_is_gone_for_a_while_lose_nothing(
    cluster: Raylets, words: list[str], tmp_path: Path, undisturbed: RunFolder, assert_equal: AssertEqual
) -> None:
    driver = pretraining(cluster, words, tmp_path)
    driver.wait_for_steps(10)
    slow = next(pid for pid in workers_of(cluster) if pid != writer_of(driver.folder))
    for _ in range(10):  # a fifth of its speed
        os.kill(slow, signal.SIGSTOP)
        time.sleep(0.8)
        os.kill(slow, signal.SIGCONT)
        time.sleep(0.2)

    (tmp_path / "runs").rename(tmp_path / "away")
    (tmp_path / "runs").mkdir()  # where nothing is mounted, an empty folder is left
    time.sleep(15)
    assert driver.process.poll() is None
    (tmp_path / "runs").rmdir()  # nothing was put there
    (tmp_path / "away").rename(tmp_path / "runs")

    code, out, err = driver.end()
    assert code == 0, err
    assert "the storage is gone" in err
    assert "a worker was lost" not in err
    assert "Traceback" not in out + err
    assert_equal(driver.folder, undisturbed)


def test_a_full_disk_ends_the_job_in_one_line_and_it_goes_on_when_there_is_room(
    cluster: Raylets, words: list[str], tmp_path: Path, undisturbed: RunFolder, assert_equal: AssertEqual
) -> None:
    storage = tmp_path / "runs"
    storage.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(storage)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a small file system")
    try:
        driver = pretraining(cluster, [*words, "train.keep_checkpoints=2"], tmp_path)
        driver.wait_for_steps(20)
        fill(storage / "filler")
        code, out, err = driver.end()
        assert code == 2, err
        assert "No space left on device" in err
        assert "Traceback" not in out + err
        kept = newest_step(driver.folder)
        assert kept >= 20

        (storage / "filler").unlink()
        driver = pretraining(cluster, [*words, "train.keep_checkpoints=2"], tmp_path)
        code, out, err = driver.end()
        assert code == 0, err
        assert f"going on from step {kept}" in err
        assert_equal(driver.folder, undisturbed)
    finally:
        subprocess.run(["umount", "--lazy", str(storage)], check=True)


def fill(file: Path) -> None:
    """Write until there is no room."""
    with file.open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(4096))
        except OSError:
            return


def test_the_head_dies_and_comes_back(
    words: list[str], tmp_path: Path, undisturbed: RunFolder, assert_equal: AssertEqual
) -> None:
    with raylets(2) as cluster:
        driver = pretraining(cluster, words, tmp_path)
        driver.wait_for_steps(20)
        workers = workers_of(cluster)
        assert len(workers) == 2
        cluster.kill_head()
        code, out, err = driver.end()
        assert code == 2, err
        assert "does not answer: waiting for it" in err
        assert "is gone, and this job with it; when there is a head again, the same command goes on" in err
        assert "Traceback" not in out + err
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "the workers to end", SECONDS)
        wait_for(lambda: all(node.process.poll() is not None for node in cluster.nodes), "the nodes to end", SECONDS)

        cluster.nodes.clear()
        cluster.start_head()
        for _ in range(2):
            cluster.add()
        driver = pretraining(cluster, words, tmp_path)
        code, out, err = driver.end()
        assert code == 0, err
        assert "going on from step" in err
        assert_equal(driver.folder, undisturbed)


SPACE = f"""
kind: tune
extends: {ROOT / "tests" / "tiny_finetune.yaml"}
metric: {{name: valid/loss, mode: min}}
train: {{batch_size: 4, max_epochs: 20}}
space:
  optimizer.lr: {{low: 1.0e-6, high: 1.0e-1, log: true}}
search: {{num_trials: 3, max_concurrent: 1, sampler: {{kind: tpe, seed: 5, n_startup_trials: 2}}}}
"""
# What the clock has a say in.
TIMES = ("seconds", "seconds_trained", "began", "ended", "tokens_per_second", "peak_memory_gib")


def test_a_node_dies_under_a_trial(cluster: Raylets, finetune_overrides: list[str], tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(SPACE, encoding="utf-8")

    def search(name: str) -> Driver:
        words = [*finetune_overrides, f"run.storage={tmp_path / 'runs'}", f"name={name}"]
        command = ["jobs/tune_finetune.py", "--space", str(space), *words]
        return Driver(cluster, command, RunFolder(tmp_path / "runs" / name))

    code, _, err = search("undisturbed").end()
    assert code == 0, err

    driver = search("disturbed")
    trial = RunFolder(driver.folder.path / "trials" / "0001")
    driver.wait_for(lambda: trial.metrics.exists() and "valid/loss" in trial.metrics.read_text(), "trial 1's report")
    [node] = [node for node in cluster.nodes if node.at_work]
    cluster.kill(node)
    cluster.add()
    code, out, err = driver.end()
    assert code == 0, err
    assert "Traceback" not in out + err
    assert trials(driver.folder) == trials(RunFolder(tmp_path / "runs" / "undisturbed"))


def trials(folder: RunFolder) -> list[dict[str, str]]:
    """trials.csv, without what the clock has a say in."""
    with (folder.path / "trials.csv").open(encoding="utf-8", newline="") as file:
        return [{name: cell for name, cell in row.items() if name not in TIMES} for row in csv.DictReader(file)]


SPEC = """
kind: prepare
data: {corpus: {kind: text, path: corpus, documents_by: blank_line}, block_tokens: 64, valid_fraction: 0.1}
tokenizer: {kind: wordpiece, vocab_size: 600}
run: {prepared: prepared}
"""
# A dozen parts of little text.
PREPARE = """
import sys
from pathlib import Path
from reforge.batches import parts
from reforge.distributed.prepare import prepare_command
parts._LEAST_BYTES = 1 << 15
sys.exit(prepare_command(Path(sys.argv[1])))
"""


def test_a_node_dies_under_a_preparation(cluster: Raylets, tmp_path: Path) -> None:
    from pydoc_data.topics import topics

    (tmp_path / "corpus").mkdir()
    for number in range(3):
        text = "\n\n".join(topics[name] for name in sorted(topics)[number::3])
        (tmp_path / "corpus" / f"{number}.txt").write_text(text, encoding="utf-8")

    def preparing(name: str) -> Driver:
        spec = tmp_path / f"{name}.yaml"
        text = SPEC.replace("path: corpus", f"path: {tmp_path / 'corpus'}")
        spec.write_text(text.replace("prepared: prepared", f"prepared: {tmp_path / name}"), encoding="utf-8")
        return Driver(cluster, ["-c", PREPARE, str(spec)], RunFolder(tmp_path / name))

    undisturbed = preparing("undisturbed").end()
    assert undisturbed[0] == 0, undisturbed

    driver = preparing("disturbed")
    driver.wait_for(lambda: any(tmp_path.glob("disturbed/.work-*/part-*")), "a part")
    driver.wait_for(lambda: any(node.workers("_run_task") for node in cluster.nodes), "a task")
    node = next(node for node in cluster.nodes if node.workers("_run_task"))
    cluster.kill(node)
    cluster.add()
    code, out, err = driver.end()
    assert code == 0, err
    assert "Traceback" not in out + err
    shards = [
        {file.name: file.read_bytes() for file in Path(text.split()[-1]).iterdir()} for text in (undisturbed[1], out)
    ]
    assert shards[0] == shards[1]
