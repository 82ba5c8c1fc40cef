"""Runs on bucketed data: rows of several lengths, resumed to the same weights, and refused where there are no pairs."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reforge.batches import prepare
from reforge.loop import StepReport
from reforge.runs import PretrainJob, RunFolder, pretrain
from reforge.spec import UserError
from reforge.tracking import read_metrics

CPU = torch.device("cpu")
BUCKETED = ("data.batches=bucketed", "data.block_tokens=64")


class Killed(Exception):
    """Stands for whatever ends a process at a given step."""


def start(job: PretrainJob, kill: int = 0) -> RunFolder:
    """Prepare and run the job, to its end or to a kill after the step `kill`."""

    def on_report(report: StepReport) -> None:
        if report.step == kill:
            raise Killed

    prepared = prepare(job.data, job.tokenizer, job.run.prepared_root, announce=lambda line: None)
    try:
        pretrain(job, job.folder, prepared.folder, CPU, on_report=on_report)
    except Killed:
        assert kill
    return RunFolder(job.folder)


@pytest.mark.slow  # trains for seconds
@pytest.mark.parametrize(("kind", "curriculum"), [("mlm", "length"), ("mlm_nsp", "none")])
def test_a_run_on_bucketed_data_resumes_to_the_same_weights(
    kind: str, curriculum: str, tiny_job: Callable[..., PretrainJob]
) -> None:
    options = (*BUCKETED, f"objective.kind={kind}", f"data.curriculum={curriculum}")
    whole = start(tiny_job(f"name=bucketed-{kind}", *options))
    rows = list(read_metrics(whole.metrics))
    seen = [row["train/tokens_seen"] for row in rows]
    steps = [after - before for before, after in zip([0, *seen], seen, strict=False)]
    assert max(steps) <= 256
    # 56 goes into 256 less evenly than 64; a curriculum begins with rows of one length.
    assert (len(set(steps)) > 1) == (curriculum == "none")
    assert json.loads(whole.result.read_text())["tokens_seen"] == seen[-1]
    assert 0 < rows[-1]["train/epoch"] < 1
    job = tiny_job(f"name=bucketed-{kind}-killed", *options)
    start(job, kill=6)
    torch.manual_seed(5)
    again = start(job)
    assert again.weights.read_bytes() == whole.weights.read_bytes()
    for row, other in zip(rows, read_metrics(again.metrics), strict=True):
        same = row.keys() - {"train/tokens_per_second", "train/seconds"}
        assert {key: row[key] for key in same} == {key: other[key] for key in same}


def test_pairs_need_bucketed_data(tiny_job: Callable[..., PretrainJob]) -> None:
    with pytest.raises((UserError, ValueError), match=r"batches"):
        start(tiny_job("name=packed-pairs", "objective.kind=mlm_nsp"))


def test_pairs_need_two_documents_in_each_split_before_the_first_step(
    tiny_job: Callable[..., PretrainJob], tmp_path: Path
) -> None:
    (tmp_path / "corpus.txt").write_text("\n\n".join(f"{n} is a number. It is less than {n + 1}." for n in range(12)))
    job = tiny_job(
        "name=one-document",
        *BUCKETED,
        "objective.kind=mlm_nsp",
        "tokenizer.vocab_size=100",
        f"data.corpus.path={tmp_path / 'corpus.txt'}",
        f"run.storage={tmp_path}",
        "data.valid_fraction=0.051",
    )
    with pytest.raises(UserError, match="the valid split has only one"):
        start(job)
