"""Fine-tuning under real Ray: one worker, two workers, two seeds at once; and what a user gets wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from reforge.distributed.finetune_command import finetune_command
from reforge.runs.finetune_job import FinetuneJob

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

TINY = Path(__file__).parents[1] / "tiny_finetune.yaml"
MakeJob = Callable[..., FinetuneJob]
EXACT = ("model.dropout=0", "head={kind: linear, dropout: 0}", "optimizer.lr=1e-3")


def metrics(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "result.json").read_text())["metrics"]
    return found


def test_one_worker_and_two_score_the_same_and_a_second_start_says_finished(
    finetune_overrides: list[str], finetune_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    one = [*finetune_overrides, *EXACT, "name=on-1-worker"]
    assert finetune_command(TINY, one) == 0
    shown = capsys.readouterr()
    single = metrics(finetune_job("name=on-1-worker").folder)
    assert f"{'test/accuracy':<24} {single['test/accuracy']:.4f}" in shown.out
    assert "examples: " in shown.err

    # One group of workers goes through all runs of a job; the first has no place to go, which does not stop the other.
    members = finetune_job("name=on-2-workers").folder / "members"
    members.mkdir(parents=True)
    (members / "seed-7").write_text("no folder")
    both = ("name=on-2-workers", "scale.num_workers=2", "repeat={seeds: [7, 1]}")
    assert finetune_command(TINY, [*finetune_overrides, *EXACT, *both]) == 2
    assert metrics(members / "seed-1") == pytest.approx(single, abs=1e-5)
    [line] = [line for line in capsys.readouterr().err.splitlines() if "cannot write" in line]
    assert line.startswith("seed-7: run.storage: cannot write the run's folder")

    assert finetune_command(TINY, one) == 0
    again = capsys.readouterr()
    assert "on-1-worker is finished; name=... starts another run" in again.err
    assert f"{single['test/accuracy']:.4f}" in again.out


def test_two_seeds_at_once_give_mean_and_spread(
    finetune_overrides: list[str], finetune_job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = [*finetune_overrides, *EXACT, "name=two-seeds", "repeat={seeds: [1, 2]}"]
    assert finetune_command(TINY, seeds) == 0
    shown = capsys.readouterr()
    folder = finetune_job("name=two-seeds").folder
    values = [metrics(folder / "members" / f"seed-{seed}")["test/loss"] for seed in (1, 2)]
    assert f"{'test/loss':<24} {sum(values) / 2:.4f} ± " in shown.out
    assert "seed-1: " in shown.err
    assert "(2 done)" in shown.err


def test_a_users_error_is_one_line_and_exit_code_2(
    finetune_overrides: list[str], finetune_job: MakeJob, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = tmp_path / "test.tsv"
    test.write_text("text\tlabel\na fine soup\tgood\na poor soup\tbda\n", encoding="utf-8")
    unseen = (f"data.test={{kind: tsv, path: {test}, text: text, label: label}}", "data.test_fraction=0")
    assert finetune_command(TINY, [*finetune_overrides, "name=unseen-label", *unseen]) == 2
    shown = capsys.readouterr()
    line = 'test.tsv:3: the label "bda" is none that training saw: bad, good; did you mean bad?'
    assert shown.err.strip().splitlines()[-1] == line
    assert shown.out == ""
    assert "Traceback" not in shown.err
    assert not (finetune_job("name=unseen-label").folder / "result.json").exists()

    assert finetune_command(TINY, [*finetune_overrides, f"encoder.run={tmp_path}", "model=null", "tokenizer=null"]) == 2
    assert "is not a finished run: config.json, model.safetensors, tokenizer.json is missing" in capsys.readouterr().err
