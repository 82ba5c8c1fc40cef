"""What --working-dir would upload: counted as Ray counts it, and refused before Ray reads it all."""

from pathlib import Path
from zipfile import ZipFile

import pytest
from ray._private.runtime_env.packaging import create_package

from reforge.distributed.upload import MIB, check_upload
from reforge.spec import UserError

ROOT = Path(__file__).parents[2]


def write(folder: Path, sizes: dict[str, int]) -> Path:
    for name, size in sizes.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    return folder


def test_what_is_ignored_is_not_counted(tmp_path: Path) -> None:
    folder = write(
        tmp_path, {"jobs/a.py": 100, "runs/w.bin": 1000, ".git/pack": 1000, "jobs/cache/b": 1000, "c.log": 50}
    )
    (folder / ".gitignore").write_text("/runs/\n*.log\n", encoding="ascii")
    (folder / ".rayignore").write_text(".git\ncache\n.*ignore\n", encoding="ascii")
    upload = check_upload(folder)
    assert (upload.num_files, upload.num_bytes) == (1, 100)


def test_a_files_count_is_rays_own(tmp_path: Path) -> None:
    folder = write(tmp_path / "dir", {"a.py": 100, "b/c.py": 2000, "b/d/e": 0, "runs/x": 10})
    (folder / "b" / ".gitignore").write_text("d\n", encoding="ascii")
    create_package(str(folder), tmp_path / "package.zip", include_gitignore=True, excludes=[])
    with ZipFile(tmp_path / "package.zip") as package:
        packed = [info for info in package.infolist() if not info.is_dir()]
    upload = check_upload(folder)
    assert (upload.num_files, upload.num_bytes) == (len(packed), sum(info.file_size for info in packed))


def test_too_large_a_folder_is_refused_and_the_largest_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path, {"data/corpus.txt": 3 * MIB, "old_runs/w.bin": 2 * MIB, "jobs/a.py": 10, "model.pt": MIB})
    with pytest.raises(UserError) as caught:
        check_upload(folder, limit_bytes=5 * MIB)
    message = str(caught.value)
    assert "6 MiB to upload, Ray takes less than 5 MiB" in message
    assert "data 3.0 MiB, old_runs 2.0 MiB, model.pt 1.0 MiB" in message
    assert ".rayignore" in message
    assert "\n" not in message


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        check_upload(tmp_path / "nowhere")


def test_this_repository_is_small_to_upload() -> None:
    """With everything that a session leaves in it: environment, caches, runs, data."""
    upload = check_upload(ROOT)
    assert 100 < upload.num_files < 1000
    assert upload.num_bytes < 8 * MIB
