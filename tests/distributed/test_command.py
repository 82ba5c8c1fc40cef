"""What a user sees on the command line when something is wrong: every message at once, exit code 2, no traceback."""

import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reforge.distributed.cluster import Resources, cpu_quota, fits, worker_shape
from reforge.distributed.command import pretrain_command
from reforge.runs.job import ScaleOptions

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "tiny.yaml"


def fail(capsys: pytest.CaptureFixture[str], *arguments: str, spec: Path = TINY) -> str:
    """What the command says on standard error; it must end with code 2."""
    assert pretrain_command(spec, arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


def test_render_prints_the_resolved_spec(tiny_overrides: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert pretrain_command(TINY, [*tiny_overrides, "train.max_steps=3", "--render"]) == 0
    out = capsys.readouterr().out
    assert "max_steps: 3" in out
    assert "num_heads: 2" in out
    assert "betas: [0.9, 0.98]" in out


def test_all_mistakes_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "wrong.yaml"
    spec.write_text(
        TINY.read_text(encoding="utf-8")
        .replace("corpus.txt", "no/such/corpus.txt")
        .replace("num_heads: 2", "num_heads: 3")
        .replace("lr: 3.0e-3", "lr: 3e-3")  # plainly a number: no mistake
        .replace("max_steps: 12", "max_step: 12")
        .replace("num_workers: 2", "num_workers: 4096")
        .replace("block_tokens: 32", "block_tokens: 8")
        .replace("precision: fp32", "precision: [1]")
    )
    err = fail(capsys, spec=spec)
    lines = {line.split(": ")[1]: line for line in err.splitlines() if line.strip().startswith(str(tmp_path))}
    assert lines.keys() >= {
        "data.corpus.path", "model.num_heads", "train.max_step", "scale.num_workers", "data.block_tokens",
        "train.precision",
    }  # fmt: skip
    assert "wrong.yaml:5: data.corpus.path" in err
    assert "max_steps" in lines["train.max_step"]
    assert "CPUs that" in lines["scale.num_workers"]
    assert "optimizer.lr" not in err


def test_a_spec_that_is_not_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = tmp_path / "broken.yaml"
    spec.write_text("model: {kind: reformer\ntrain: ]\n")
    assert "broken.yaml:2" in fail(capsys, spec=spec)


def test_a_spec_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert "quickstart.yaml" in fail(capsys, spec=ROOT / "jobs" / "specs" / "quickstrat.yaml")


def test_an_empty_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    err = fail(capsys, f"data.corpus.path={tmp_path / 'empty.txt'}", f"run.storage={tmp_path}")
    assert "no document" in err


def test_one_short_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "short.txt").write_text("A single short document.\n")
    err = fail(capsys, f"data.corpus.path={tmp_path / 'short.txt'}", f"run.storage={tmp_path}")
    assert "1 document" in err


def test_a_file_that_is_not_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "latin.txt").write_bytes("Anfang\n\nGrüße aus Köln\n".encode("latin-1"))
    err = fail(capsys, f"data.corpus.path={tmp_path / 'latin.txt'}", f"run.storage={tmp_path}")
    assert "latin.txt" in err
    assert "at offset 10" in err


def test_a_vocabulary_smaller_than_the_alphabet(
    tiny_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = fail(capsys, *tiny_overrides, "tokenizer.vocab_size=30", f"run.storage={tmp_path}")
    assert "alphabet" in err
    assert "30" in err


def test_a_storage_path_that_cannot_be_written(
    tiny_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    err = fail(capsys, *tiny_overrides, f"run.storage={tmp_path / 'file' / 'runs'}")
    assert "Not a directory" in err


@pytest.mark.slow  # a process that imports everything
def test_the_script_itself_ends_with_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "jobs/pretrain.py", "train.max_step=200", f"run.storage={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "command line: train.max_step=200: train.max_step: unknown key; did you mean max_steps?" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("content", "cpus"), [("max 100000\n", math.inf), ("200000 100000\n", 2), ("150000 100000\n", 2), ("", math.inf)]
)
def test_a_containers_cpu_quota_is_kept_to(tmp_path: Path, content: str, cpus: float) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert cpu_quota(tmp_path / "cpu.max") == cpus
    assert cpu_quota(tmp_path / "none") == math.inf


def test_auto_shares_the_cpus_and_takes_a_gpu_each_where_there_are_any() -> None:
    shape = worker_shape(ScaleOptions(num_workers=2), Resources(16, 2, "here"))
    assert (shape.cpus, shape.gpus) == (8, 1)
    assert worker_shape(ScaleOptions(num_workers=3), Resources(4, 0, "here")).cpus == 1


def test_elastic_workers_need_room_for_the_fewest() -> None:
    shape = worker_shape(ScaleOptions(num_workers=(2, 8)), Resources(4, 0, "here"))
    assert (shape.least_workers, shape.num_workers, shape.cpus, shape.is_elastic) == (2, 8, 1, True)
    assert list(fits(Resources(4, 0, "here"))(ScaleOptions(num_workers=(2, 8)))) == []
    (problem,) = fits(Resources(1, 0, "here"))(ScaleOptions(num_workers=(2, 8)))
    assert "at most the 1 CPUs" in problem.rule
    assert not worker_shape(ScaleOptions(num_workers=2), Resources(4, 0, "here")).is_elastic


@pytest.mark.parametrize(
    ("cpus", "gpus", "scale", "workers"),
    [
        (2, 0, {}, 2),
        (16, 0, {}, 4),
        (4, 0, {"cpus_per_worker": 3}, 1),
        (8, 1, {}, 1),
        (8, 4, {}, 4),
        (8, 1, {"gpus_per_worker": 0.5}, 2),
        (2, 1, {"gpus_per_worker": 0}, 2),
    ],
)
def test_auto_workers_are_one_for_each_gpu_or_cpu(cpus: int, gpus: int, scale: dict[str, float], workers: int) -> None:
    resources, options = Resources(cpus, gpus, "here"), ScaleOptions.model_validate({"num_workers": "auto", **scale})
    assert worker_shape(options, resources).num_workers == workers
    assert list(fits(resources)(options)) == []


@pytest.mark.parametrize(
    ("scale", "cpus", "gpus", "rule"),
    [
        (ScaleOptions(num_workers=5), 4, 0, "workers need at most the 4 CPUs that here has"),
        (ScaleOptions(num_workers=2, cpus_per_worker=3), 4, 0, "workers of 3 CPUs each need at most the 4 CPUs"),
        (ScaleOptions(num_workers=2), 4, 1, "workers of 1 GPUs each need at most the 1 GPUs"),
        (ScaleOptions(num_workers=1, gpus_per_worker=1.0), 4, 0, "workers of 1 GPUs each need at most the 0 GPUs"),
    ],
)
def test_more_workers_than_the_cluster_has(scale: ScaleOptions, cpus: int, gpus: int, rule: str) -> None:
    (problem,) = fits(Resources(cpus, gpus, "here"))(scale)
    assert problem.rule.startswith(rule)
    assert problem.path == ("scale", "num_workers")


def test_nothing_is_left_half_written_by_a_refused_spec(
    tiny_overrides: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(capsys, *tiny_overrides, f"run.storage={tmp_path / 'new'}", "model.depth=0")
    assert not (tmp_path / "new").exists()
    shutil.rmtree(tmp_path)


@pytest.mark.slow  # starts an S3 server
def test_a_bucket_that_is_not_there_is_said_before_anything_is_prepared(
    tiny_overrides: list[str], tmp_path: Path, s3: object, capsys: pytest.CaptureFixture[str]
) -> None:
    err = fail(capsys, *tiny_overrides, "run.storage=s3://none/runs", f"run.prepared={tmp_path}/prepared")
    assert err == "run.storage: s3://none/runs cannot be reached: The specified bucket does not exist\n"
    assert not (tmp_path / "prepared").exists()
