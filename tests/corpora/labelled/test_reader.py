"""Labelled sets in files: which files a path stands for, how examples are named, what is said where there are none."""

import gzip
from pathlib import Path

import pytest

from reforge.corpora.labelled import TextExample
from reforge.corpora.labelled.tsv import Tsv
from reforge.corpora.place import as_place
from reforge.corpora.tally import Tally
from reforge.spec import UserError


def test_the_files_of_a_path_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.tsv").write_text("text\tlabel\ntwo\ty\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.txt.gz").write_bytes(gzip.compress(b"text\tlabel\none\tx\n"))
    (tmp_path / "README.md").write_text("no table")
    (tmp_path / ".hidden.tsv").write_text("no table")
    tally = Tally()
    found = list(Tsv(path=tmp_path).read(tally=tally))
    assert found == [TextExample("a/a.txt.gz:2", "one", None, "x"), TextExample("b.tsv:2", "two", None, "y")]
    assert (tally.files, tally.documents) == (2, 2)
    assert list(Tsv(path=tmp_path / "*.tsv").read()) == found[1:]
    assert list(Tsv(path=tmp_path / "nowhere").read(tmp_path / "b.tsv")) == found[1:]


def test_a_url() -> None:
    place = as_place("memory://labelled/a.tsv")
    place.write_text("text\tlabel\none\tx\n")
    assert list(Tsv(path=place).read()) == [TextExample("a.tsv:2", "one", None, "x")]


def test_where_files_lie_is_no_part_of_what_they_say(tmp_path: Path) -> None:
    first, second = Tsv(path=tmp_path / "a"), Tsv(path=tmp_path / "b")
    assert first.identity() == second.identity() != Tsv(path=tmp_path / "a", score=True).identity()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("train.tvs", r"train\.tvs does not exist; did you mean .*train\.tsv\?"),
        ("folder", r"folder must be a file or hold files that end in \.tsv or \.tab or \.txt"),
        ("header.tsv", r"header\.tsv holds no example$"),
        ("empty.tsv", r"empty\.tsv holds no example; left out: empty file 1"),
        ("blank.tsv", r"blank\.tsv holds no example; left out: empty 2"),
    ],
)
def test_a_set_without_an_example_is_said_before_anything_starts(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "train.tsv").write_text("text\tlabel\none\tx\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "README").touch()
    (tmp_path / "header.tsv").write_text("text\tlabel\n")
    (tmp_path / "empty.tsv").touch()
    (tmp_path / "blank.tsv").write_text("text\tlabel\n\tx\n \tx\n")
    with pytest.raises(UserError, match=says):
        list(Tsv(path=tmp_path / name).read())
    [problem] = Tsv(path=tmp_path / name).problems()
    assert problem.path == ("path",)
