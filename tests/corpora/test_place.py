"""Remote places: listing, patterns, reading and what is said when they can't be reached."""

import gzip
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from reforge.corpora import Tally
from reforge.corpora.parquet import Parquet
from reforge.corpora.pile import Pile
from reforge.corpora.place import as_place, exists, fixed_part, is_remote, visible_files
from reforge.corpora.text import Text
from reforge.spec import UserError

FILES = {
    "a.txt": b"one\n",
    "b/no_extension": "둘\n".encode(),
    "b/deep/c.md": b"three\n",
    "b/deep/d.txt.gz": gzip.compress(b"four\n"),
    ".hidden": b"no\n",
    "b/.git/x.txt": b"no\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Any]:
    """The files in memory, in a folder that no other test has."""
    root: Any = UPath(f"memory://{tmp_path.name}/corpus")
    for name, content in FILES.items():
        root.fs.pipe(f"{root.path}/{name}", content)
    yield root
    root.fs.rm(root.path, recursive=True)


def texts(place: Any, **options: object) -> list[str]:
    return [document.text for document in Text(path=place, **options).documents(Tally())]  # type: ignore[arg-type]


def test_text_with_a_scheme_is_remote() -> None:
    assert is_remote(as_place("memory://a/b"))
    assert is_remote(as_place("s3://bucket/pile"))
    assert not is_remote(as_place("data/kowiki"))
    with pytest.raises(ValueError, match="foo"):
        as_place("foo://a/b")


def test_a_remote_path_is_a_file_a_directory_or_a_pattern(folder: Any) -> None:
    assert texts(folder / "a.txt") == ["one"]
    assert texts(folder / "b" / "deep" / "d.txt.gz") == ["four"]
    assert texts(folder) == ["one", "three", "four", "둘"]
    assert texts(folder / "*.txt") == ["one"]
    assert texts(folder / "*") == ["one", "three", "four", "둘"]
    assert texts(folder / "**" / "*.md") == ["three"]
    assert texts(folder / "?" / "deep") == ["three", "four"]
    assert texts(as_place(f"{folder}/b/**")) == ["three", "four", "둘"]


def test_remote_and_local_places_list_the_same_names(folder: Any, tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    for pattern in ("", "a.txt", "*.txt", "b", "b/*", "b/**", "**/*.md", "*/deep", "[ab]*", "b/deep/*.gz"):
        local, remote = Text(path=tmp_path / pattern), Text(path=as_place(f"{folder}/{pattern}".rstrip("/")))
        assert remote.file_names() == local.file_names(), pattern
        assert remote.identity() == local.identity()


def test_remote_slices_survive_a_pickle(folder: Any) -> None:
    corpus = Text(path=folder, documents_by="line")
    again = pickle.loads(pickle.dumps(corpus))
    assert list(again.read(pickle.loads(pickle.dumps(corpus.whole())), Tally())) == list(corpus.documents(Tally()))


def test_files_that_came_later_are_seen(folder: Any) -> None:
    assert len(visible_files(folder)) == 4
    folder.fs.pipe(f"{folder.path}/later.txt", b"five")
    assert [file.name for file in visible_files(folder)][-1] == "later.txt"
    assert fixed_part(folder / "*" / "x") == folder


def test_a_missing_remote_path_names_its_neighbour(folder: Any) -> None:
    [problem] = Text(path=folder / "b" / "deeep").problems()
    assert (problem.rule, problem.nearest) == ("must exist", str(folder / "b" / "deep"))
    [problem] = Text(path=folder / "*.xml").problems()
    assert problem.rule == "must match a file"
    [problem] = Pile(path=folder).problems()
    assert problem.rule.startswith("must be a file or hold files that end in .jsonl or ")
    assert list(Text(path=folder).problems()) == []


def test_a_remote_file_that_is_damaged_is_not_out_of_reach(folder: Any) -> None:
    for ending in (".bz2", ".gz", ".xz", ".zst", ".parquet"):
        folder.fs.pipe(f"{folder.path}/bad{ending}", b"not packed")
        with pytest.raises(UserError, match=rf"bad\{ending} is no whole \{ending} file: "):
            (Parquet if ending == ".parquet" else Text)(path=folder / f"bad{ending}").documents(Tally()).__next__()


def test_a_file_system_without_its_package_is_said() -> None:
    code = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from reforge.corpora.place import as_place\n"
        "from reforge.corpora.text import Text\n"
        "[problem] = Text(path=as_place('s3://bucket/text')).problems(); print(problem)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=_environment())
    assert shown.stdout.startswith("path: s3://bucket/text cannot be reached: "), shown.stderr
    assert "s3fs" in shown.stdout


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


@pytest.fixture(scope="module")
def bucket(s3: Any) -> Any:
    """A folder of files in a bucket of a real S3 server on this machine."""
    s3.mkdir("corpora")
    root: Any = UPath("s3://corpora/kept")
    for name, content in FILES.items():
        s3.pipe(f"{root.path}/{name}", content)
    s3.pipe("corpora/kept/b/marker/", b"")  # what consoles create for a folder
    return root


@pytest.mark.slow
def test_a_bucket_is_read_like_any_place(bucket: Any) -> None:
    assert texts(bucket) == ["one", "three", "four", "둘"]
    assert texts(bucket / "**" / "*.gz") == ["four"]
    assert Text(path=bucket).file_names() == ["a.txt", "b/deep/c.md", "b/deep/d.txt.gz", "b/no_extension"]
    corpus = Text(path=bucket / "b", documents_by="line")
    parts = [part for whole in corpus.whole() for part in (whole._replace(stop=2), whole._replace(start=2))]
    assert list(corpus.read(parts, Tally())) == list(corpus.documents(Tally()))
    [problem] = Text(path=bucket / "b" / "depe").problems()
    assert problem.nearest == "s3://corpora/kept/b/deep"


@pytest.mark.slow
def test_a_bucket_that_is_not_there_is_a_problem(bucket: Any) -> None:
    for path in ("s3://nobodys/text", "s3://nobodys/*.txt"):
        [problem] = Text(path=as_place(path)).problems()
        assert problem.path == ("path",)
    assert exists(bucket)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "AWS_EC2_METADATA_DISABLED": "true"}, "redentials"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}, "127.0.0.1:9"),
    ],
    ids=["no credentials", "no server"],
)
def test_a_store_out_of_reach_is_one_message(bucket: Any, changes: dict[str, str | None], says: str) -> None:
    environment = _environment() | {"AWS_CONFIG_FILE": "none", "AWS_SHARED_CREDENTIALS_FILE": "none"}
    environment = {name: value for name, value in (environment | changes).items() if value is not None}
    code = (
        "from reforge.corpora.place import as_place\n"
        "from reforge.corpora.text import Text\n"
        "[problem] = Text(path=as_place('s3://corpora/kept')).problems(); print(problem)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert shown.stdout.startswith("path: s3://corpora/kept cannot be reached: "), shown.stderr
    assert says in shown.stdout


def test_keys_of_an_object_store_that_lead_elsewhere_are_passed_over() -> None:
    place = UPath("memory://keys/corpus")
    for key in ("ok.txt", "../evil.txt", "a/../../evil.txt", "%2e%2e/odd.txt"):
        place.fs.pipe(f"/keys/corpus/{key}", b"text")
    assert [file.path for file in visible_files(place)] == ["/keys/corpus/%2e%2e/odd.txt", "/keys/corpus/ok.txt"]
