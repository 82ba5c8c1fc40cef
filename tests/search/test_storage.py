"""Where a study lives: what cannot be reached is said in a line, and a journal survives a kill at any byte."""

import json
from pathlib import Path

import optuna
import pytest

from reforge.search.storage import open_storage, reachable
from reforge.spec import UserError

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def filled(path: Path) -> None:
    """A study of three finished trials."""
    study = optuna.create_study(storage=open_storage(str(path)), study_name="s")
    for value in range(3):
        study.tell(study.ask({"x": optuna.distributions.FloatDistribution(0, 1)}), value)


def num_finished(path: Path) -> int:
    """As Optuna reads them."""
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    study = optuna.load_study(study_name="s", storage=optuna.storages.JournalStorage(backend))
    return len(study.get_trials(states=(optuna.trial.TrialState.COMPLETE,)))


def test_a_line_cut_short_by_a_kill_is_dropped_and_the_journal_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "new" / "study.journal"
    filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    study = optuna.load_study(study_name="s", storage=open_storage(str(path)))
    study.tell(study.ask(), 7.0)
    assert num_finished(path) == 3
    path.write_bytes(whole[:7])
    open_storage(str(path))
    assert path.read_bytes() == b""


def test_a_lock_left_behind_by_a_kill_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "study.journal"
    filled(path)
    monkeypatch.setattr("reforge.search.storage._LOCK_GRACE_SECONDS", 1)
    (tmp_path / "study.journal.lock").symlink_to(path)
    with pytest.warns(UserWarning, match="grace_period"):
        filled_again = open_storage(str(path))
    assert len(filled_again.get_all_studies()) == 1


def test_what_is_no_journal_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no end of line")
    with pytest.raises(UserError, match="is no journal of Optuna's"):
        open_storage(str(path))
    assert path.read_text() == "no end of line"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("op_code", None), ("op_code", 99), ("op_code", []), ("study_id", []), ("study_id", {}), ("directions", None),
        ("directions", 10**20), ("distribution", -1), ("distribution", "__import__('os').system('exit')"),
    ],
)  # fmt: skip
def test_a_journal_that_says_nonsense_is_said(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "study.journal"
    filled(path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert any(key in line for line in lines)
    path.write_text("".join(json.dumps({**line, key: value} if key in line else line) + "\n" for line in lines))
    with pytest.raises(UserError, match=r"study\.journal is no journal of Optuna's"):
        open_storage(str(path))


def test_a_damaged_journal_is_said(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    filled(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"garbage\n", *lines[1:]]))
    with pytest.raises(UserError, match=r"study\.journal is no journal of Optuna's, or damaged"):
        open_storage(str(path))


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("sqlite:///{folder}/missing/study.db", "cannot be reached: .*unable to open database file"),
        ("postgresql+psycopg://me:secret@localhost:1/x", "needs a database driver: .*psycopg"),
        ("://nonsense", "is neither a path nor a database's URL"),
        ("oracleee://h/x", "neither a path nor a database's URL"),
        ("{folder}/file/study.journal", "cannot be used: (Not a directory|File exists)"),
    ],
)
def test_a_storage_that_cannot_be_reached_is_one_line(where: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=why) as error:
        open_storage(where.format(folder=tmp_path))
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.slow  # a database is made
def test_sqlite_holds_a_study(tmp_path: Path) -> None:
    where = f"sqlite:///{tmp_path}/study.db"
    study = optuna.create_study(storage=open_storage(where), study_name="s")
    study.tell(study.ask(), 1.0)
    assert len(optuna.load_study(study_name="s", storage=where).trials) == 1


def test_our_own_mistakes_are_not_hidden() -> None:
    with pytest.raises(KeyError), reachable("study.journal"):
        raise KeyError("ours")
