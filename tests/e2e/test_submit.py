"""Jobs submitted to a real head, as the README writes it; what a user sees of their ends, good and bad.

The head is a process of its own, so that this one's Ray, if there is one, stays another.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # starts two Ray heads

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))

HEAD = """
import json, sys, ray
from reforge.distributed.submission import local_head
with local_head() as address:
    print(json.dumps([address, ray.get_runtime_context().gcs_address]), flush=True)
    for line in sys.stdin:
        exec(line)
        print("ok", flush=True)
"""
# Another Python is hard to come by; what the head says of its own is not.
SAY_PYTHON = """
from ray._private import worker; gcs = worker.global_worker.gcs_client; \
facts = json.loads(gcs.internal_kv_get(b"CLUSTER_METADATA", b"cluster")); facts["python_version"] = {version!r}; \
gcs.internal_kv_put(b"CLUSTER_METADATA", json.dumps(facts).encode(), True, b"cluster")
"""


@dataclass(frozen=True)
class Head:
    """A running head: where jobs go, where drivers go, and its token."""

    process: "subprocess.Popen[str]"
    jobs: str
    gcs: str
    token: Path

    def environment(self, **more: str) -> dict[str, str]:
        access = {"RAY_ADDRESS": self.jobs, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token)}
        return clean_environment() | access | more

    def do(self, line: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line.strip() + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ok\n"


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    token = tmp_path_factory.mktemp("access") / "token"
    token.write_text("0123456789abcdef" * 4, encoding="ascii")
    environment = clean_environment() | {"RAY_AUTH_TOKEN_PATH": str(token)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HEAD], cwd=ROOT, env=environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        jobs, gcs = json.loads(process.stdout.readline())
        yield Head(process, jobs, gcs, token)
        process.stdin.close()
        process.wait(60)


@pytest.fixture(scope="module")
def small(tiny_overrides: list[str], prepared_folder: Path) -> list[str]:
    """The shortest training that there is, in one worker."""
    return [
        str(ROOT / "tests" / "tiny.yaml"), *tiny_overrides, "scale.num_workers=1", "train.max_steps=2",
        "train.eval_every_steps=2", "train.checkpoint_every_steps=2",
    ]  # fmt: skip


def run(head: Head, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    shown = subprocess.run(
        command, cwd=ROOT, env=head.environment(**environment), capture_output=True, text=True, timeout=240
    )
    assert head.token.read_text(encoding="ascii") not in shown.stdout + shown.stderr
    return shown


def test_the_bare_command(head: Head, small: list[str], storage: Path) -> None:
    shown = run(head, RAY, "job", "submit", "--", "python", "jobs/pretrain.py", *small, "name=bare")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert re.search(r"^finished +step 2", shown.stdout, re.MULTILINE)
    assert (storage / "bare" / "result.json").exists()


def test_an_uploaded_working_directory_is_what_runs(head: Head) -> None:
    """Driver and workers import the package that was uploaded, although another is installed."""
    where = "import ray, reforge; ask = ray.remote(lambda: __import__('reforge').__file__); ray.init(); "
    where += "print('driver', reforge.__file__, 'worker', ray.get(ask.remote()))"
    shown = run(head, RAY, "job", "submit", "--working-dir", ".", "--", "python", "-c", where)
    package = r"/\S+/_ray_pkg_\w+/platform/reforge/__init__.py"
    assert re.search(f"driver {package} worker {package}", shown.stdout), shown.stdout + shown.stderr


def test_what_the_user_can_mend_reaches_the_logs_and_the_status(head: Head, tmp_path: Path) -> None:
    spec = tmp_path / "wrong.yaml"
    spec.write_text(
        f"extends: {ROOT / 'jobs' / 'specs' / 'quickstart.yaml'}\noptimizer: {{lrr: 3}}\n", encoding="utf-8"
    )
    shown = run(head, sys.executable, "jobs/submit.py", "--working-dir", ".", str(spec))
    assert shown.returncode == 2
    assert re.match(r"uploading \.: \d+ files, \d\.\d MiB", shown.stderr)
    line = f"{spec}:2: optimizer.lrr: unknown key; did you mean lr?"
    assert line in shown.stdout
    assert "Traceback" not in shown.stdout + shown.stderr
    job = re.findall(r"job (\S+) failed with exit code 2", shown.stderr)[0]
    assert line in run(head, RAY, "job", "logs", job).stdout
    status = run(head, RAY, "job", "status", job)
    assert "failed" in status.stdout + status.stderr
    assert "exit code 2" in status.stdout + status.stderr
    assert line in status.stdout + status.stderr


def test_gpus_where_there_are_none(head: Head, small: list[str]) -> None:
    shown = run(head, sys.executable, "jobs/pretrain.py", *small, "scale.gpus_per_worker=1", RAY_ADDRESS=head.gcs)
    assert shown.returncode == 2
    assert "need at most the 0 GPUs that the Ray cluster has" in shown.stderr


@pytest.mark.parametrize("way", [{"RAY_AUTH_TOKEN": "f" * 64}, {"RAY_AUTH_MODE": "disabled"}], ids=["wrong", "missing"])
@pytest.mark.parametrize("script", ["jobs/submit.py", "jobs/pretrain.py"])
def test_a_wrong_or_missing_token(head: Head, way: dict[str, str], script: str) -> None:
    address = head.jobs if script == "jobs/submit.py" else head.gcs
    shown = run(head, sys.executable, script, **way, RAY_ADDRESS=address)
    assert shown.returncode == 2
    said = f"the Ray cluster at RAY_ADDRESS={address} takes a token, and none or another was given"
    assert next(line for line in shown.stderr.splitlines() if "network_util" not in line).startswith(said)
    assert "Traceback" not in shown.stderr


def test_another_python_on_the_cluster(head: Head) -> None:
    ours = ".".join(map(str, sys.version_info[:3]))
    head.do(SAY_PYTHON.format(version="3.10.1"))
    shown = run(head, sys.executable, "jobs/pretrain.py", RAY_ADDRESS=head.gcs)
    head.do(SAY_PYTHON.format(version=ours))
    assert shown.returncode == 2
    assert re.search(rf"is Ray \S+ on Python 3\.10\.1, this process is Ray \S+ on Python {ours}", shown.stderr)
    assert "Traceback" not in shown.stderr


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Ray puts sockets into the temporary folder; the path of one has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="r") as folder:
        yield Path(folder)


@pytest.mark.long
def test_ctrl_c_ends_the_job_and_the_head_that_was_started_for_it_and_no_other(head: Head, short_folder: Path) -> None:
    script = short_folder / "sleeper.py"
    script.write_text("import os, time\nprint('driver', os.getpid(), flush=True)\ntime.sleep(600)\n", encoding="ascii")
    command = [sys.executable, "jobs/submit.py", str(script)]
    environment = clean_environment() | {"TMPDIR": str(short_folder)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes) as submitter:  # type: ignore[call-overload]
        driver = next(int(line.split()[1]) for line in submitter.stdout if line.startswith("driver "))
        (token,) = short_folder.glob("reforge-head-*/token")
        assert token.stat().st_mode & 0o777 == 0o600
        secret = token.read_text(encoding="ascii")
        submitter.send_signal(signal.SIGINT)
        out, err = submitter.communicate(timeout=60)
    assert submitter.returncode == 130, err
    assert secret not in out + err
    assert not Path(f"/proc/{driver}").exists()
    assert not token.exists()
    assert run(head, RAY, "job", "list").returncode == 0
