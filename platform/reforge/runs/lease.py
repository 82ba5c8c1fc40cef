"""The right to write a run in a store: one process has it at a time, by an object named `lock`.

    nobody's --created where there is none--> ours --a beat every 10 s--> deleted at the end
                                               '--its process died--> another's, after 60 s without a beat, or at once
                                                                      where both are of one machine or one job

What it cannot do: a store has no locks that end with their owner. Two that take over one dead process's lock in the
same moment both believe they have it; the one whose name does not stand in it finds out before its next upload, and at
its next beat, and stops. So does a process that comes back after the store was out of its reach for longer than a lock
lasts. Stores that cannot create an object only where there is none (S3 and Google's can) leave the same gap at the
first start of a run.
"""

import os
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from reforge.runs.store import LOCK, STOP, Say, Store
from reforge.spec import UserError

BEAT_SECONDS, LOOK_SECONDS = 10.0, 2.0
# A lock that nobody has touched for so long is a dead process's.
LASTS_SECONDS = 60.0
# A killed driver's workers may go on for some seconds: so long a start waits for a lock that is alive.
WAIT_SECONDS = 60.0
_BOOT, _PROCESSES = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


@dataclass(frozen=True)
class Owner:
    """Who holds a lock.

    token: of this one start of this one process
    machine: within which the number of the process is its own
    driver: who started the process, and starts another for the same run only when it has ended; "" where nobody did
    """

    token: str
    process: Annotated[int, Field(gt=0, lt=2**31)]
    host: str
    machine: str
    driver: str = ""
    beats: int = 0

    @classmethod
    def this_process(cls, driver: str = "") -> "Owner":
        """A new owner."""
        return cls(uuid.uuid4().hex, os.getpid(), os.uname().nodename, _this_machine(), driver)

    def is_dead(self, driver: str = "") -> bool:
        """Whether its process is known to have ended: it was one of this machine, or of the same driver."""
        if driver and self.driver == driver:
            return True
        if not self.machine or self.machine != _this_machine():
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return False

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


_OWNER = TypeAdapter(Owner)


def _this_machine() -> str:
    try:
        return f"{_BOOT.read_text().strip()} {_PROCESSES.readlink()}"
    except OSError:  # no Linux: nothing is known of other processes
        return ""


class Lease:
    """A lock that is held: it is touched, and the request to stop looked for, by a thread until `release`.

    previous: the token of the dead owner whose lock it was; None where there was none
    on_stop: called when somebody has asked the run to stop
    """

    def __init__(self, store: Store, owner: Owner, previous: str | None, on_stop: Callable[[], None]) -> None:
        self.store, self.owner, self.previous, self._on_stop = store, owner, previous, on_stop
        self.lost_to: str | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="reforge-lease")
        self._thread.start()

    @classmethod
    def take(cls, store: Store, on_stop: Callable[[], None], say: Say, driver: str = "") -> "Lease":
        """The lock of a run, waited for where it must be; raises UserError where a living process has it."""
        owner, previous = Owner.this_process(driver), None
        began = unchanged_since = time.monotonic()
        seen: bytes | None = None
        while not store.create(LOCK, _OWNER.dump_json(owner)):
            content, now = store.read(LOCK), time.monotonic()
            if content is None:
                continue
            if content != seen:
                if seen is not None and now - began > WAIT_SECONDS:
                    raise UserError(_held(store, content))
                if seen is None and not _is_dead(content, driver):
                    say(f"{_held(store, content)}; waiting whether it is alive")
                seen, unchanged_since = content, now
            if _is_dead(content, driver) or now - unchanged_since > LASTS_SECONDS:
                previous = _token(content)
                store.remove([LOCK])
            else:
                time.sleep(min(LOOK_SECONDS, LASTS_SECONDS / 4))
        return cls(store, owner, previous, on_stop)

    def check(self) -> None:
        """Raise UserError where the lock has become another's."""
        if self.lost_to is None:
            content = self.store.read(LOCK)
            if content is not None and _token(content) != self.owner.token:
                self.lost_to = _held(self.store, content)
        if self.lost_to is not None:
            raise UserError(f"{self.lost_to}, which took it over when this one was not heard of; this one has stopped")

    def release(self) -> None:
        """Give the lock back; whoever comes next need not wait."""
        self._ended.set()
        self._thread.join(timeout=LOOK_SECONDS)  # it may be waiting for a store that is gone
        if self.lost_to is None and _token(self.store.read(LOCK) or b"") == self.owner.token:
            self.store.remove([LOCK])

    def _look(self) -> None:
        beaten = time.monotonic()
        while not self._ended.wait(LOOK_SECONDS) and self.lost_to is None:
            try:
                if self.store.read(STOP) is not None:
                    self._on_stop()
                    self.store.remove([STOP])
                if time.monotonic() - beaten > BEAT_SECONDS:
                    self.check()
                    self.owner = replace(self.owner, beats=self.owner.beats + 1)
                    self.store.write(LOCK, _OWNER.dump_json(self.owner))
                    beaten = time.monotonic()
            except Exception:  # of the store's own sorts; whatever lasts is met, and said, by the uploads
                continue


def _is_dead(content: bytes, driver: str) -> bool:
    owner = _parsed(content)
    return owner is not None and owner.is_dead(driver)


def _token(content: bytes) -> str | None:
    owner = _parsed(content)
    return owner.token if owner else None


def _parsed(content: bytes) -> Owner | None:
    try:
        return _OWNER.validate_json(content)
    except ValueError:
        return None


def _held(store: Store, content: bytes) -> str:
    return f"{store.place} is being written by another process ({_parsed(content) or 'unknown'})"
