"""A corpus in a bucket, prepared into a bucket by several processes, and trained on through the cache."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from upath import UPath

from reforge.batches import open_prepared, prepare
from reforge.runs import PretrainJob, pretrain

PREPARE = """
import sys
from pathlib import Path
from reforge.batches import parts
from reforge.distributed.prepare import prepare_command
parts._LEAST_BYTES = 1 << 15
sys.exit(prepare_command(Path("spec.yaml"), sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_bucket_in_and_a_bucket_out(
    s3: Any, tiny_job: Callable[..., PretrainJob], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pydoc_data.topics import topics

    s3.mkdir("lake")
    text = "\n\n".join(topics[name] for name in sorted(topics)[:80])
    (tmp_path / "topics.txt").write_text(text, encoding="utf-8")
    s3.pipe("lake/corpus/topics.txt", text.encode())
    shared = ["data.corpus.kind=text", "data.corpus.documents_by=blank_line", "train.max_steps=2", "name=lake"]
    there = ["data.corpus.path=s3://lake/corpus", "run.prepared=s3://lake/prepared", f"run.cache={tmp_path}/cache"]
    spec = Path(__file__).parents[1] / "tiny.yaml"
    command = [sys.executable, "-c", PREPARE, str(spec), *shared, *there, "scale.prepare_workers=2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder = UPath(done.stdout.split()[-1])
    assert not s3.glob("lake/prepared/.work*/**")

    monkeypatch.setattr("reforge.batches.parts._LEAST_BYTES", 1 << 15)
    job = tiny_job(*shared, *there)
    here = tiny_job(*shared, f"data.corpus.path={tmp_path}/topics.txt")
    local = prepare(here.data, here.tokenizer, tmp_path / "prepared", lambda line: None)
    assert local.folder.name == folder.name
    remote = open_prepared(folder, job.data, job.run.shard_cache)  # type: ignore[arg-type]
    rows = np.arange(len(local.train))[::7]
    np.testing.assert_array_equal(remote.train.blocks(rows), local.train.blocks(rows))

    cpu = torch.device("cpu")
    result = pretrain(job, tmp_path / "remote", folder, cpu)  # type: ignore[arg-type]
    assert list((tmp_path / "cache").glob("*.bin"))
    assert result.metrics == pretrain(here, tmp_path / "local", local.folder, cpu).metrics
