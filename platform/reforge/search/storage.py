"""Where a study lives: Optuna's own storage, which optuna and optuna-dashboard read too.

`runs/cnn-cls/study.journal`, any path, is Optuna's journal; `sqlite:///file.db` and the URL of a server
(`postgresql+psycopg://...`, `mysql+pymysql://...`) are databases.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from reforge.spec import UserError

# A process killed with the lock in its hands leaves the lock behind: Optuna's default would wait 30 s for it. A write
# and its fsync hold it for milliseconds.
_LOCK_GRACE_SECONDS = 5
_JOURNAL_START = b'{"op_code"'


def open_storage(where: str, must_exist: bool = False) -> BaseStorage:
    """The storage at a path or URL, made where there is none unless it `must_exist`.

    A journal's last line, where a kill cut it short, is removed. Raises UserError in one line where the storage cannot
    be reached, is damaged, or needs a driver that is not installed.
    """
    with reachable(where):
        if "://" in where:
            _check_url(where)
            return optuna.storages.get_storage(RDBStorage(where))  # which adds Optuna's cache
        path = Path(where)
        if must_exist and not path.is_file():
            raise UserError(f"storage {where}: no such file")
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = JournalFileSymlinkLock(str(path), grace_period=_LOCK_GRACE_SECONDS)
        if path.exists():
            lock.acquire()
            try:
                _cut_partial_line(path)
            finally:
                lock.release()
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))


@contextmanager
def reachable(where: str) -> Iterator[None]:
    """Turns what a storage raises when it cannot be used into a UserError of one line, without passwords."""
    try:
        yield
    except ArgumentError:
        raise UserError(f"storage {shown(where)} is neither a path nor a database's URL") from None
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise UserError(f"storage {shown(where)} cannot be reached: {_first_line(error)}") from error
    except ImportError as error:
        cause = error.__cause__ or error
        raise UserError(f"storage {shown(where)} needs a database driver: {_first_line(cause)}") from error
    except OSError as error:
        raise UserError(f"storage {shown(where)} cannot be used: {error.strerror or error}") from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError) as error:
        if not _from_journal(error):
            raise
        raise UserError(f"storage {where} is no journal of Optuna's, or damaged: {_first_line(error)}") from error


def shown(where: str) -> str:
    """A path or URL as it may be printed: a password is hidden."""
    if "://" not in where:
        return where
    try:
        return make_url(where).render_as_string(hide_password=True)
    except (ArgumentError, ValueError):  # a port that is no number
        return f"{where.partition('://')[0]}://..."


def _check_url(where: str) -> None:
    try:
        make_url(where)
    except ValueError:
        raise UserError(f"storage {shown(where)} is neither a path nor a database's URL") from None


def _cut_partial_line(path: Path) -> None:
    """Optuna reads past a last line without its end, but appends to it: the next start would find a broken line."""
    with path.open("rb+") as file:
        content = file.read()
        if not content.startswith(_JOURNAL_START) and not _JOURNAL_START.startswith(content):
            raise UserError(f"storage {path} is no journal of Optuna's")
        complete = content.rfind(b"\n") + 1
        if complete < len(content):
            file.truncate(complete)
            os.fsync(file.fileno())


def _from_journal(error: BaseException) -> bool:
    """Whether it was raised while a journal was read."""
    trace = error.__traceback__
    while trace is not None:
        if f"optuna{os.sep}storages{os.sep}journal" in trace.tb_frame.f_code.co_filename:
            return True
        trace = trace.tb_next
    return False


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
