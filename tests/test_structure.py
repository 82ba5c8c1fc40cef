"""What the repository's shape promises: the folder platform/ hides nothing, and set-up fails with a sentence."""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import packages_distributions
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib")).resolve()


def test_platform_is_a_folder_and_no_package() -> None:
    assert (ROOT / "platform" / "reforge" / "__init__.py").exists()
    assert not (ROOT / "platform" / "__init__.py").exists()


def test_import_platform_under_pytest_gives_pythons_own() -> None:
    assert Path(platform.__file__).resolve().parent == STANDARD_LIBRARY


@pytest.mark.parametrize("first_on_path", ["", "platform", "jobs"])
def test_import_platform_from_the_root_gives_pythons_own(first_on_path: str) -> None:
    code = "import platform, reforge; print(platform.__file__, reforge.__file__, sep='\\n')"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {first_on_path!r}); {code}"]
    environment = os.environ | {"PYTHONPATH": "platform"}
    shown = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    own, reforge = (Path(line).resolve() for line in shown.splitlines())
    assert own.parent == STANDARD_LIBRARY
    assert reforge == ROOT / "platform" / "reforge" / "__init__.py"


def test_the_types_ship_with_the_package() -> None:
    assert (files("reforge") / "py.typed").is_file()
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "py.typed" in settings["tool"]["setuptools"]["package-data"]["reforge"]


def test_no_job_is_named_after_a_library() -> None:
    """A job's folder comes first on the path of the job, so its files would be imported in the library's place."""
    jobs = {path.stem for path in (ROOT / "jobs").glob("*.py")}
    assert jobs.isdisjoint(sys.stdlib_module_names)
    assert jobs.isdisjoint(packages_distributions())


def test_the_licence_is_apache_2() -> None:
    lines = [line.strip() for line in (ROOT / "LICENSE").read_text(encoding="utf-8").split("\n") if line.strip()]
    assert lines[:2] == ["Apache License", "Version 2.0, January 2004"]
    assert "END OF TERMS AND CONDITIONS" in lines
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["license"] == "Apache-2.0"


def set_up(folder: Path, python: str | None) -> subprocess.CompletedProcess[str]:
    """Run a copy of setup.sh where the only Python on the PATH is the given shell script, or none."""
    shutil.copy(ROOT / "setup.sh", folder)
    shutil.copy(ROOT / "pyproject.toml", folder)
    tools = folder / "bin"
    tools.mkdir()
    for name in ("sh", "dirname"):
        (tools / name).symlink_to(shutil.which(name) or name)
    if python is not None:
        (tools / "python3").write_text(f"#!/bin/sh\n{python}\n")
        (tools / "python3").chmod(0o755)
    return subprocess.run(
        [str(tools / "sh"), "setup.sh"], cwd=folder, env={"PATH": str(tools)}, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("python", "says"),
    [
        (None, "setup: no Python from 3.11 to 3.14 on the PATH"),
        ("exit 1", "setup: no Python from 3.11 to 3.14 on the PATH"),
        ('case "$2" in *ensurepip*) exit 1;; esac', "setup: python3 lacks the venv module"),
    ],
    ids=["none", "too old", "without venv"],
)
def test_set_up_without_a_suitable_python_says_so(tmp_path: Path, python: str | None, says: str) -> None:
    ended = set_up(tmp_path, python)
    assert ended.returncode == 1
    assert ended.stderr.startswith(says)
    assert len(ended.stderr.splitlines()) == 1
    assert not (tmp_path / ".venv").exists()


def test_set_up_leaves_a_set_up_at_work_alone(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "made-by-setup").touch()
    (tmp_path / ".venv" / "installing").write_text(f"{os.getpid()}\n")
    (tmp_path / "setup.sh").write_text((ROOT / "setup.sh").read_text())
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    command = ["sh", "setup.sh"]
    environment = os.environ | {"PYTHON": sys.executable}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"setup: process {os.getpid()} is installing into .venv.")
    assert {path.name for path in (tmp_path / ".venv").iterdir()} == {"installing", "made-by-setup"}
