"""Preparation on Ray: the same bytes whoever does the work, and nothing lost when a process dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reforge.batches import Data, parts, prepare
from reforge.batches.executor import in_process
from reforge.corpora.text import Text
from reforge.distributed.tasks import RayExecutor
from reforge.spec import UserError
from reforge.tokenizers.wordpiece import WordPiece

TOKENIZER = WordPiece(vocab_size=600)
PART_BYTES = 1 << 15
PREPARE = f"""
import sys
from pathlib import Path
from reforge.batches import parts
from reforge.distributed.prepare import prepare_command
parts._LEAST_BYTES = {PART_BYTES}
sys.exit(prepare_command(Path("spec.yaml"), sys.argv[1:]))
"""
TWO_NODES = """
import os
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
os.environ["RAY_ADDRESS"] = cluster.address
"""
SPEC = """
kind: prepare
data: {corpus: {kind: text, path: corpus, documents_by: blank_line}, block_tokens: 64, valid_fraction: 0.1}
tokenizer: {kind: wordpiece, vocab_size: 600}
scale: {prepare_workers: 2}
run: {prepared: prepared}
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About a megabyte of real text in three files."""
    from pydoc_data.topics import topics

    folder = tmp_path_factory.mktemp("parallel") / "corpus"
    folder.mkdir()
    names = sorted(topics)
    for number in range(3):
        (folder / f"{number}.txt").write_text("\n\n".join(topics[name] for name in names[number::3]), encoding="utf-8")
    return folder


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dozen parts of little text: they are planned in this process alone."""
    monkeypatch.setattr(parts, "_LEAST_BYTES", PART_BYTES)


def data_of(corpus: Path, **options: object) -> Data:
    text = Text(path=corpus, documents_by="blank_line")
    return Data(corpus=text, block_tokens=64, valid_fraction=0.1, **options)  # type: ignore[arg-type]


def shards_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def task_processes() -> list[int]:
    """Processes below this one in which a task of a preparation runs."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if b"ray::_run_task" in (entry / "cmdline").read_bytes() and _is_ours(int(entry.name)):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def _is_ours(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = parent_of(pid)
    return False


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session", "small_parts")
@pytest.mark.parametrize("options", [{}, {"batches": "bucketed"}], ids=["packed", "bucketed"])
def test_the_bytes_do_not_depend_on_who_does_the_work(corpus: Path, tmp_path: Path, options: dict[str, str]) -> None:
    data = data_of(corpus, **options)
    alone = prepare(data, TOKENIZER, tmp_path / "alone", lambda line: None, in_process)
    assert len(parts.plan(data.corpus, {file: file.stat().st_size for file in data.corpus.files()})) > 10
    for num_cpus in (2, 3):
        executor = RayExecutor(num_cpus, start=lambda: None)
        together = prepare(data, TOKENIZER, tmp_path / str(num_cpus), lambda line: None, executor)
        assert together.folder.name == alone.folder.name
        assert shards_of(together.folder) == shards_of(alone.folder)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session", "small_parts")
def test_a_task_whose_process_is_killed_is_done_again(corpus: Path, tmp_path: Path) -> None:
    data = data_of(corpus)
    expected = shards_of(prepare(data, TOKENIZER, tmp_path / "alone", lambda line: None).folder)
    killed: list[int] = []
    done = threading.Event()

    def kill() -> None:
        while len(killed) < 2 and not done.is_set():
            for pid in task_processes()[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                time.sleep(0.3)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        prepared = prepare(data, TOKENIZER, tmp_path / "killed", lambda line: None, RayExecutor(2, lambda: None))
    finally:
        done.set()
        killer.join()
    assert killed
    assert shards_of(prepared.folder) == expected


@pytest.mark.slow
@pytest.mark.usefixtures("ray_session", "small_parts")
def test_what_a_user_can_mend_comes_from_a_task_without_a_traceback(corpus: Path, tmp_path: Path) -> None:
    bad = tmp_path / "corpus"
    bad.mkdir()
    for file in corpus.iterdir():
        (bad / file.name).write_bytes(file.read_bytes())
    (bad / "1.txt").write_bytes((bad / "1.txt").read_bytes() + b"\n\nfine \xff")
    with pytest.raises(UserError, match=r"1\.txt.* is not UTF-8") as caught:
        prepare(data_of(bad), TOKENIZER, tmp_path / "prepared", lambda line: None, RayExecutor(2, lambda: None))
    assert type(caught.value) is UserError or "ray" not in type(caught.value).__module__


@pytest.mark.slow
def test_a_killed_driver_goes_on_where_it_stopped(corpus: Path, tmp_path: Path, small_parts: None) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "corpus").symlink_to(corpus)

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PREPARE, "spec.yaml"]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    first = start()
    wait_for(lambda: len(list(tmp_path.glob("prepared/.work-*/part-*"))) > 1 or first.poll() is not None)
    assert first.poll() is None, first.communicate()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    second = start()
    output, told = second.communicate()
    assert second.returncode == 0, told
    assert "packing: going on" in told
    assert "reused" in told  # the tokenizer
    expected = prepare(data_of(corpus), TOKENIZER, tmp_path / "alone", lambda line: None)
    folder = Path(output.split()[-1])
    assert folder.name == expected.folder.name
    assert shards_of(folder) == shards_of(expected.folder)


@pytest.mark.slow
def test_two_nodes_share_the_work(corpus: Path, tmp_path: Path, small_parts: None) -> None:
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "corpus").symlink_to(corpus)
    command = [sys.executable, "-c", TWO_NODES + PREPARE, "spec.yaml"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    raylets = set[int]()
    while process.poll() is None:
        raylets |= {parent_of(pid) for pid in task_processes()}
        time.sleep(0.05)
    output, told = process.communicate()
    assert process.returncode == 0, told
    assert len(raylets - {0}) == 2
    expected = prepare(data_of(corpus), TOKENIZER, tmp_path / "alone", lambda line: None)
    assert shards_of(Path(output.split()[-1])) == shards_of(expected.folder)


def parent_of(pid: int) -> int:
    """The process that started another, 0 where that has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
