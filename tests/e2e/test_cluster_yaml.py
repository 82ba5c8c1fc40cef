"""cluster.yaml started for real: two hosts in Linux namespaces, ssh between them, a job both ways, and down again."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOT_TO_BE_HAD = 77


@pytest.mark.slow  # starts a cluster of two hosts
def test_the_local_cluster_comes_up_works_and_goes_down() -> None:
    shown = subprocess.run(["sh", "jobs/clusters/try_local.sh"], cwd=ROOT, capture_output=True, text=True, timeout=1200)
    if shown.returncode == NOT_TO_BE_HAD:
        pytest.skip(shown.stdout.strip())
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert shown.stdout.splitlines()[-1].startswith("== done")
