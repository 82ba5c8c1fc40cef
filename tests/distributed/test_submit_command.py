"""The command line of jobs/submit.py; tests/e2e/test_submit.py submits."""

from pathlib import Path

import pytest

from reforge.distributed.submit_command import job_command, submit_command


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ([], ["jobs/pretrain.py"]),
        (["spec.yaml", "name=a"], ["jobs/pretrain.py", "spec.yaml", "name=a"]),
        (["jobs/finetune.py", "spec.yaml"], ["jobs/finetune.py", "spec.yaml"]),
        (["jobs/predict.py", "--serve"], ["jobs/predict.py", "--serve"]),
        (["--", "--dry-run"], ["jobs/pretrain.py", "--dry-run"]),
    ],
)
def test_the_command_of_a_job(words: list[str], command: list[str]) -> None:
    assert job_command(words) == ["python", *command]


def test_a_working_directory_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit_command(["--working-dir", str(tmp_path / "nowhere"), "spec.yaml"]) == 2
    assert capsys.readouterr().err == f"--working-dir {tmp_path / 'nowhere'}: no such folder\n"
