"""A folder in a store, here one in this process's memory."""

import threading
from pathlib import Path

import pytest
from upath import UPath

from reforge.runs import store as stores
from reforge.runs.store import MISTAKES, Store, brought, patiently, writable
from reforge.spec import UserError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return UPath(f"memory://store-{tmp_path.name}/runs/a")  # type: ignore[return-value]


def test_files_go_there_and_come_back(place: Path, tmp_path: Path) -> None:
    store = Store(place)
    assert store.names() == set()
    assert store.read("one") is None
    assert store.version("one") is None
    (tmp_path / "one").write_bytes(b"1")
    store.upload(tmp_path / "one", "deep/one")
    assert store.create("two", b"2")
    assert not store.create("two", b"3")
    assert store.names() == {"deep/one", "two"}
    assert store.names("deep") == {"deep/one"}
    store.download("deep/one", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == b"1"
    store.remove(["two", "never"])
    assert store.names() == {"deep/one"}
    assert Store(place.with_name("b")).names() == set(), "another folder of a like name"


def test_what_is_written_for_a_store_is_there_when_the_block_ends(place: Path, tmp_path: Path) -> None:
    for folder in (place, tmp_path / "new" / "folder"):
        with writable(folder) as here:
            (here / "result.json").write_text("{}")
            (here / "below").mkdir()
            (here / "below" / "curve").write_text("1")
        assert (folder / "result.json").read_text() == "{}"
        assert (folder / "below" / "curve").read_text() == "1"


def test_files_are_loaded_once_for_each_version(place: Path, tmp_path: Path) -> None:
    store = Store(place)
    store.write("config.json", b"old")
    first = brought(place, ["config.json", "spec.yaml"], tmp_path)
    assert {file.name: file.read_bytes() for file in first.iterdir()} == {"config.json": b"old"}
    (first / "config.json").write_bytes(b"kept")
    assert (brought(place, ["config.json", "spec.yaml"], tmp_path) / "config.json").read_bytes() == b"kept"
    store.write("config.json", b"newer")
    second = brought(place, ["config.json", "spec.yaml"], tmp_path)
    assert (second / "config.json").read_bytes() == b"newer"
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [second], "the old version makes room"


def test_a_store_that_refuses_for_a_while_is_asked_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "_SHORTEST_PAUSE_SECONDS", 0.01)
    answers, said = iter([OSError("no route"), OSError("no route"), "done"]), list[str]()

    def work() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(work, place, 60, said.append, threading.Event()) == "done"
    assert said == [f"warning: {place} cannot be reached: no route; it is tried again for 60 s"]


@pytest.mark.parametrize("error", [OSError("no route"), FileNotFoundError("no bucket"), UserError("not yours")])
def test_what_lasts_is_said(place: Path, error: Exception) -> None:
    calls = []

    def work() -> None:
        calls.append(1)
        raise error

    with pytest.raises(UserError, match=str(error)):
        patiently(work, place, 0.0, lambda line: None, threading.Event(), MISTAKES)
    assert len(calls) == 1
