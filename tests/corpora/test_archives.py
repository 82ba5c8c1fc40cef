"""Files that lie open or in zip archives, whatever form their names have."""

import json
import tracemalloc
import unicodedata
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from reforge.corpora import Document, Tally, json_stream
from reforge.corpora.nikl import Nikl
from reforge.spec import UserError


def content(text: str) -> bytes:
    record = {"id": "WARW1.1", "paragraph": [{"id": "WARW1.1.1", "form": text}]}
    return json.dumps({"id": "WARW1", "document": [record]}, ensure_ascii=False).encode()


def archive(members: dict[str, bytes]) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for name, member in members.items():
            new.writestr(name, member)
    return packed.getvalue()


def read(path: Path, **options: Any) -> tuple[list[Document], Tally]:
    tally = Tally()
    return list(Nikl(path=path, **options).documents(tally)), tally


def test_names_and_order_are_the_same_in_both_normal_forms(tmp_path: Path) -> None:
    names = ["2_가.json", "2_각.json", "2_나.json"]
    folders = [tmp_path / form for form in ("NFC", "NFD")]
    for folder in folders:
        folder.mkdir()
        for name in names:
            (folder / unicodedata.normalize(folder.name, name)).write_bytes(content(name))  # type: ignore[arg-type]
    assert [Nikl(path=folder).file_names() for folder in folders] == [names, names]
    composed, decomposed = (read(folder)[0] for folder in folders)
    assert composed == decomposed
    assert [document.text for document in composed] == names


@pytest.mark.parametrize(("typed", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_path_may_be_typed_in_either_normal_form(tmp_path: Path, typed: Any, on_disk: Any) -> None:
    file = tmp_path / unicodedata.normalize(on_disk, "말뭉치") / unicodedata.normalize(on_disk, "구어체.json")
    file.parent.mkdir()
    file.write_bytes(content("글"))
    path = tmp_path / unicodedata.normalize(typed, "말뭉치/구어체.json")
    for place in (path, path.parent):
        assert list(Nikl(path=place).problems()) == []
        assert [document.name for document in read(place)[0]] == ["구어체.json: WARW1.1"]
    [problem] = Nikl(path=path.with_name("없다.json")).problems()
    assert problem.rule == "must exist"


def test_hidden_locked_and_foreign_files_are_not_read(tmp_path: Path) -> None:
    names = ["a.json", "~$a.json", "readme.pdf", ".b.json", "__MACOSX/a.json", "c/._a.json", "c/.DS_Store", "c/b.JSON"]
    (tmp_path / "a.zip").write_bytes(archive({name: content(name) for name in names}))
    for name in names[:4]:
        (tmp_path / name).write_bytes(content(name))
    assert [document.text for document in read(tmp_path)[0]] == ["a.json", "a.json", "c/b.JSON"]


def test_archives_within_archives(tmp_path: Path) -> None:
    inner = archive({"b.json": content("둘"), "c.json": content("셋")})
    outer = archive({"가/a.json": content("하나"), "inner.ZIP": inner, "d.json": content("넷")})
    (tmp_path / "outer.zip").write_bytes(outer)
    documents, tally = read(tmp_path)
    assert [document.text for document in documents] == ["하나", "둘", "셋", "넷"]
    assert documents[1].name == "outer.zip/inner.ZIP/b.json: WARW1.1"
    assert tally.files == 1


@pytest.mark.parametrize("encoding", ["cp949", "utf-8"])
def test_names_without_their_encoding_are_readable(tmp_path: Path, encoding: str) -> None:
    name = "구어체".encode(encoding)
    packed = archive({"A" * len(name) + ".json": content("글")}).replace(b"A" * len(name), name)
    (tmp_path / "a.zip").write_bytes(packed)
    assert read(tmp_path)[0][0].name == "a.zip/구어체.json: WARW1.1"


def test_an_archive_is_cut_between_any_two_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(archive({f"{n}.json": content(f"글 {n}") for n in range(5)}))
    corpus = Nikl(path=tmp_path)
    [whole] = corpus.whole()
    assert corpus.cuttable(whole)
    size = (tmp_path / "a.zip").stat().st_size
    for step in (1, 7, size // 3):
        edges = list(range(0, size, step))
        slices = [whole._replace(start=a, stop=b) for a, b in zip(edges, [*edges[1:], None], strict=True)]
        tally = Tally()
        assert [document for piece in slices for document in corpus.read([piece], tally)] == read(tmp_path)[0]
        assert (tally.files, tally.documents) == (1, 5)


def test_a_damaged_archive_is_named_and_counted_once(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(archive({"a.json": content("글")})[:-30])
    with pytest.raises(UserError, match=r"a\.zip is no whole zip archive"):
        read(tmp_path, on_bad_record="fail")
    corpus = Nikl(path=tmp_path)
    [whole] = corpus.whole()
    tally = Tally()
    assert list(corpus.read([whole._replace(stop=20), whole._replace(start=20)], tally)) == []
    assert tally.dropped == {"rest of a damaged file": 1}


def test_a_damaged_member_costs_only_itself(tmp_path: Path) -> None:
    packed = bytearray(archive({"a.json": content("하나" * 100), "b.json": content("둘")}))
    packed[packed.index(b"a.json") + 20] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(packed)
    with pytest.raises(UserError, match=r"a\.zip/a\.json"):
        read(tmp_path, on_bad_record="fail")
    documents, tally = read(tmp_path)
    assert [document.text for document in documents] == ["둘"]
    assert sum(tally.dropped.values()) == len(tally.trouble) == 1


def test_an_encrypted_member_says_what_to_do(tmp_path: Path) -> None:
    packed = bytearray(archive({"a.json": content("글")}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(mark) + offset] |= 1
    (tmp_path / "a.zip").write_bytes(packed)
    with pytest.raises(UserError, match=r"a\.zip/a\.json is encrypted: unpack"):
        read(tmp_path, on_bad_record="fail")


def test_remote_archives() -> None:
    folder: Any = UPath("memory://archives")
    (folder / "a.zip").write_bytes(archive({"a.json": content("하나"), "b.json": content("둘")}))
    (folder / "b.json").write_bytes(content("셋"))
    assert [document.text for document in read(folder)[0]] == ["하나", "둘", "셋"]


def test_names_that_lead_elsewhere_are_names_and_links_are_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret.json"
    secret.write_bytes(content("secret"))
    link = zipfile.ZipInfo("link.json")
    link.external_attr = 0o120777 << 16
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as new:
        for name in ("../../up.json", "/abs.json", "a/../b.json"):
            new.writestr(name, content(f"of {name}"))
        new.writestr(link, str(secret))
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.zip").write_bytes(packed.getvalue())
    monkeypatch.chdir(folder)
    before = sorted(tmp_path.rglob("*"))
    documents, tally = read(folder, on_bad_record="skip")
    assert [document.text for document in documents] == ["of /abs.json"], "names with .. are as hidden files are"
    assert tally.as_dict()["dropped"] == {"file that is no JSON": 1}
    assert sorted(tmp_path.rglob("*")) == before, "nothing is unpacked"


def test_archives_within_archives_end_somewhere(tmp_path: Path) -> None:
    packed = archive({"a.json": content("deep")})
    for depth in range(400):
        packed = archive({f"{depth}.zip": packed})
    (tmp_path / "a.zip").write_bytes(packed)
    with pytest.raises(UserError, match=r"392\.zip lies in more than 7 archives"):
        read(tmp_path, on_bad_record="fail")
    documents, tally = read(tmp_path, on_bad_record="skip")
    assert documents == []
    assert tally.as_dict()["dropped"] == {"rest of a damaged file": 1}


def test_what_unpacks_to_far_more_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_VALUE_CHARS", 1_000_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as new, new.open("a.json", "w") as member:
        member.write(b'{"document": [{"id": "')
        for _ in range(30):
            member.write(b"x" * 1_000_000)
    tracemalloc.start()
    documents, tally = read(tmp_path, on_bad_record="skip")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert documents == []
    assert tally.as_dict()["dropped"] == {"file that is no JSON": 1}
    assert most < 15e6, "of 30 MB that an archive holds in 30 KB"
