"""Locks in a store: who gets one, who has to wait, and how one that is lost is noticed."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from upath import UPath

from reforge.runs import lease
from reforge.runs.lease import Lease, Owner
from reforge.runs.store import LOCK, STOP, Store
from reforge.spec import UserError


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Store:
    """A store of this process, and locks that last for fractions of a second."""
    for name, seconds in {"BEAT": 0.05, "LOOK": 0.02, "LASTS": 0.4, "WAIT": 0.3}.items():
        monkeypatch.setattr(lease, f"{name}_SECONDS", seconds)
    return Store(UPath(f"memory://lease-{tmp_path.name}/run"))  # type: ignore[arg-type]


def take(store: Store, said: list[str] | None = None) -> Lease:
    return Lease.take(store, lambda: None, (said if said is not None else []).append)


def left(store: Store, **changes: object) -> Owner:
    """A lock that somebody has left."""
    owner = replace(Owner.this_process(), **changes)  # type: ignore[arg-type]
    store.write(LOCK, json.dumps(asdict(owner)).encode())
    return owner


def test_whoever_comes_second_is_refused_while_the_first_lives(store: Store) -> None:
    first = take(store)
    with pytest.raises(UserError, match=r"run is being written by another process \(process \d+ on "):
        take(store)
    first.check()
    first.release()
    assert store.read(LOCK) is None
    take(store).release()


def test_the_lock_of_a_dead_process_of_this_machine_is_taken_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LASTS_SECONDS", 60.0)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    owner = left(store, process=gone.pid)
    held = take(store)
    assert held.previous == owner.token
    held.release()


def test_the_lock_of_another_machine_is_taken_when_it_has_no_beats(store: Store) -> None:
    owner, said = left(store, machine="another", host="elsewhere", process=7), list[str]()
    began = time.monotonic()
    held = take(store, said)
    assert time.monotonic() - began >= lease.LASTS_SECONDS
    assert held.previous == owner.token
    assert "process 7 on elsewhere" in said[0]
    held.release()


def test_a_lock_that_nobody_can_read_is_waited_for_as_well(store: Store) -> None:
    store.write(LOCK, b"{")
    held = take(store)
    assert held.previous is None
    held.release()


def test_who_was_thought_dead_finds_out(store: Store) -> None:
    held = take(store)
    other = left(store, machine="another", host="elsewhere", process=7)
    deadline = time.monotonic() + 5
    while held.lost_to is None and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(UserError, match=r"process 7 on elsewhere.*took it over.*this one has stopped"):
        held.check()
    held.release()
    assert other.token in (store.read(LOCK) or b"").decode(), "another's lock is not removed"


def test_a_request_to_stop_is_handed_on_once(store: Store) -> None:
    asked = threading.Semaphore(0)
    held = Lease.take(store, asked.release, lambda line: None)
    store.write(STOP, b"stop")
    assert asked.acquire(timeout=5)
    assert not asked.acquire(timeout=0.1)
    assert store.read(STOP) is None
    held.release()


def test_who_was_started_by_the_same_driver_has_ended(store: Store) -> None:
    first = Lease.take(store, lambda: None, lambda line: None, driver="a job")
    second = Lease.take(store, lambda: None, lambda line: None, driver="a job")
    with pytest.raises(UserError, match="took it over"):
        first.check()
    second.check()
    second.release()
