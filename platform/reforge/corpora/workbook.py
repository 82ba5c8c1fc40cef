"""The rows of an .xlsx workbook's sheets, streamed."""

import errno
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, TypeVar
from xml.etree.ElementTree import ParseError

from reforge.corpora.streams import DamagedError

# What openpyxl raises, at one place or another, for a file that is cut, patched by hand, or something else.
_SPOILT = (
    zipfile.BadZipFile, zlib.error, EOFError, ParseError, OSError, KeyError, IndexError, AttributeError, TypeError,
    ValueError, NotImplementedError, RuntimeError,
)  # fmt: skip
_ERRNOS_OF_DAMAGE = (None, errno.EINVAL)  # openpyxl's own, and that of a seek to before the start

Row = Sequence[Any]
_Value = TypeVar("_Value")


class Sheet(NamedTuple):
    """A sheet's name and the values of its rows, which end with their last cell."""

    name: str
    rows: Iterator[Row]


def sheets(content: BinaryIO, place: str) -> Iterator[Sheet]:
    """The sheets of a workbook; each is read before the next is asked for.

    place: the file, for messages
    Raises DamagedError, also from a sheet's rows, where the file is no whole workbook.
    """
    for sheet in _guarded(_worksheets(content), place):
        yield Sheet(sheet.title, _guarded(sheet.iter_rows(values_only=True), place))


def _worksheets(content: BinaryIO) -> Iterator[Any]:
    from openpyxl import load_workbook  # every process of a job would wait for the library otherwise

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Workbook contains no default style")
        workbook: Any = load_workbook(content, read_only=True, data_only=True, keep_links=False)
    for sheet in workbook.worksheets:
        sheet.reset_dimensions()  # some writers say "A1" for any size, others a million rows
        yield sheet


def _guarded(values: Iterator[_Value], place: str) -> Iterator[_Value]:
    while True:
        try:
            value = next(values)
        except StopIteration:
            return
        except _SPOILT as error:
            if isinstance(error, OSError) and error.errno not in _ERRNOS_OF_DAMAGE:  # the disk's or the network's
                raise
            raise DamagedError(f"{place} is no whole .xlsx workbook: {error or type(error).__name__}") from error
        yield value
