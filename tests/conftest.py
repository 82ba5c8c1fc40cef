"""Fixtures that several folders share: a real corpus, a tiny real job, one Ray session."""

import gc
import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from reforge.spec import load_source, validate

# A shell that starts the tests in the background has them, and all that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Two threads on a tiny model wait for each other more than they compute, and on a busy machine far more.
torch.set_num_threads(1)
# Processes that train together are forked from one that has imported everything already.
multiprocessing.set_forkserver_preload(["reforge.runs", "torch._dynamo"])  # which DistributedDataParallel imports

TINY = Path(__file__).parent / "tiny.yaml"
TINY_FINETUNE = Path(__file__).parent / "tiny_finetune.yaml"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Modules and tests stay until the end: the garbage collector would look through millions of objects in vain."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def corpus_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real English prose: Python's help topics, a blank line between documents."""
    from pydoc_data.topics import topics

    path = tmp_path_factory.mktemp("corpus") / "topics.txt"
    path.write_text("\n\n".join(topics[name] for name in sorted(topics)[:30]), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs go; shared by the session, so that the corpus is prepared once."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def tiny_overrides(corpus_file: Path, storage: Path) -> list[str]:
    """What makes tests/tiny.yaml find its corpus and keep out of the repository."""
    return [f"data.corpus.path={corpus_file}", f"run.storage={storage}"]


@pytest.fixture(scope="session")
def tiny_job(tiny_overrides: list[str]) -> Callable[..., "PretrainJob"]:  # noqa: F821
    """A function from overrides to the tiny job."""
    from reforge.runs import PretrainJob

    return lambda *overrides: validate(PretrainJob, load_source(TINY, [*tiny_overrides, *overrides]))


@pytest.fixture(scope="session")
def prepared_folder(tiny_job: Callable[..., "PretrainJob"]) -> Path:  # noqa: F821
    """The tiny job's corpus, prepared."""
    from reforge.batches import prepare

    job = tiny_job()
    return prepare(job.data, job.tokenizer, job.run.prepared_root, announce=lambda line: None).folder


@pytest.fixture(scope="session")
def reviews_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of two classes, 24 of each, of many lengths and each once."""
    things = ("soup", "bread", "tea", "cake", "rice", "jam", "fish", "salt")
    opinions = {"good": ("lovely", "warm and fresh", "the best"), "bad": ("awful", "cold and old", "the worst")}
    rows = [
        f"the {thing} was {words}{' indeed' * (number % 5)}\t{label}"
        for number, thing in enumerate(things)
        for label, said in opinions.items()
        for words in said
    ]
    path = tmp_path_factory.mktemp("reviews") / "reviews.tsv"
    path.write_text("\n".join(["text\tlabel", *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def finetune_overrides(reviews_file: Path, storage: Path) -> list[str]:
    """What makes tests/tiny_finetune.yaml find its set and keep out of the repository."""
    return [f"data.train.path={reviews_file}", f"run.storage={storage / 'finetunings'}"]


@pytest.fixture(scope="session")
def finetune_job(finetune_overrides: list[str]) -> Callable[..., "FinetuneJob"]:  # noqa: F821
    """A function from overrides to the tiny fine-tuning."""
    from reforge.runs.finetune_job import FinetuneJob

    return lambda *overrides: validate(FinetuneJob, load_source(TINY_FINETUNE, [*finetune_overrides, *overrides]))


@pytest.fixture
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optuna's journal waits for the disk after every line; what a test writes need not survive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture(scope="session")
def s3() -> Iterator[Any]:
    """The file system of a real S3 server on this machine, which `s3://` leads to as long as the tests run."""
    server_module = pytest.importorskip("moto.server")
    s3fs = pytest.importorskip("s3fs")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield s3fs.S3FileSystem()
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One Ray on this machine for the whole session; three workers fit whatever the number of cores."""
    import logging

    import ray

    os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"  # as for every Ray that a job starts
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.5"  # a tiny job ends long before Ray's two seconds
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=128 * 2**20,
    )
    yield
    ray.shutdown()


class _App:
    """TensorBoard's server without a socket."""

    made: ClassVar[Any] = None

    def __init__(self, app: Any, flags: Any) -> None:
        _App.made = app

    def serve_forever(self) -> None:
        return

    def get_url(self) -> str:
        return ""


@pytest.fixture(scope="session")
def opened() -> Callable[[Path], Callable[[str, Any], Any]]:
    """A function that starts TensorBoard's application on what lies in a folder now, to be asked over HTTP."""

    def start(logdir: Path) -> Callable[[str, Any], Any]:
        from tensorboard import default
        from tensorboard.program import TensorBoard
        from werkzeug.test import Client

        board = TensorBoard(default.get_plugins(), server_class=_App)
        words = ["--logdir", str(logdir), "--load_fast=false", "--reload_task=blocking", "--reload_interval=0"]
        board.configure(["", *words])
        board.launch()
        client = Client(_App.made)
        return lambda path, body: client.post(f"/data/plugin/{path}", json=body).get_json(force=True)

    return start
