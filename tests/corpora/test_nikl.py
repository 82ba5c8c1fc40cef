"""모두의 말뭉치: five sets in two layouts, other sets beside them, broken files."""

import json
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from reforge.corpora import Document, Tally
from reforge.corpora.nikl import Nikl
from reforge.spec import UserError


def document(name: str, *texts: Any, layout: str = "paragraph", **more: Any) -> dict[str, Any]:
    entries = [
        {"id": f"{name}.{n}", **(text if isinstance(text, dict) else {"form": text})} for n, text in enumerate(texts)
    ]
    return {"id": name, "metadata": {"title": "연습"}, layout: entries, **more}


def content(name: str, *documents: Any) -> str:
    return json.dumps({"id": name, "metadata": {"title": "연습"}, "document": documents}, ensure_ascii=False)


def said(form: str, original_form: str) -> dict[str, Any]:
    return {"form": form, "original_form": original_form, "speaker_id": "1", "note": ""}


FILES = {
    "NWRW1900000001": [document("NWRW1900000001.1", "마을에 다리가 놓였다", "다리는 길다.", " 모두 기뻐했다. ")],
    "WARW1900000002": [document("WARW1900000002.1", "첫 장", "이야기는 여기서 시작된다.")],
    "ERRW1900000003": [document("ERRW1900000003.1", "오늘은 산에 갔어요~")],
    "SDRW2000000004": [
        document("SDRW2000000004.1", said("그럴 거야.", "그럴 꺼야"), said("응.", "응"), layout="utterance")
    ],
    "MDRW1900000005": [document("MDRW1900000005.1", said("&name1& 안녕", "영희 안뇽"), layout="utterance")],
}
TEXTS = {
    "ERRW1900000003": "오늘은 산에 갔어요~",
    "MDRW1900000005": "&name1& 안녕",
    "NWRW1900000001": "마을에 다리가 놓였다\n다리는 길다.\n모두 기뻐했다.",
    "SDRW2000000004": "그럴 거야.\n응.",
    "WARW1900000002": "첫 장\n이야기는 여기서 시작된다.",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, documents in FILES.items():
        (tmp_path / f"{name}.json").write_text(content(name, *documents))
    return tmp_path


def read(path: Path, **options: Any) -> tuple[list[Document], Tally]:
    tally = Tally()
    return list(Nikl(path=path, **options).documents(tally)), tally


def texts(path: Path, **options: Any) -> list[str]:
    return [document.text for document in read(path, **options)[0]]


def test_all_five_sets_are_read(folder: Path) -> None:
    documents, tally = read(folder)
    assert [document.text for document in documents] == list(TEXTS.values())
    assert documents[2].name == "NWRW1900000001.json: NWRW1900000001.1"
    assert (tally.files, tally.documents) == (5, 5)
    assert tally.characters == sum(map(len, TEXTS.values()))
    assert not tally.dropped
    assert not tally.fixed


def test_only_some_sets_by_name_or_by_id(folder: Path) -> None:
    (folder / "NWRW1900000001.json").rename(folder / "신문.json")
    documents, tally = read(folder, sets=("newspaper", "messenger"))
    assert [document.text for document in documents] == [TEXTS["MDRW1900000005"], TEXTS["NWRW1900000001"]]
    assert tally.dropped == {"file of another set": 3}
    documents, tally = read(folder, sets=("web",))
    assert len(documents) == 1
    assert tally.dropped == {"file of another set": 3, "document of another set": 1}


def test_headlines_and_the_two_transcripts_are_options(folder: Path) -> None:
    assert texts(folder / "NWRW1900000001.json", headlines=False) == ["다리는 길다.\n모두 기뻐했다."]
    assert texts(folder / "WARW1900000002.json", headlines=False) == [TEXTS["WARW1900000002"]]
    assert texts(folder / "SDRW2000000004.json", utterances="original_form") == ["그럴 꺼야\n응"]


def test_broken_files_are_told_and_left_out_as_a_whole(folder: Path) -> None:
    whole = content("SARW1800000006", document("SARW1800000006.1", "하나"), document("SARW1800000006.2", "둘"))
    (folder / "SARW1800000006.json").write_text(whole[:-8])
    (folder / "SARW1800000007.json").write_text(whole.replace('"둘"', '"둘'))
    (folder / "SARW1800000008.json").write_bytes(whole.encode("cp949"))
    (folder / "SARW1800000009.json").write_text("")
    documents, tally = read(folder)
    assert [document.text for document in documents] == list(TEXTS.values())
    assert tally.dropped == {"file that is no JSON": 4}
    assert len(tally.trouble) == 4
    assert "SARW1800000006.json:1: no JSON: " in tally.trouble[0]
    assert "is not UTF-8" in tally.trouble[2]
    with pytest.raises(UserError, match=r"SARW1800000006\.json:1: no JSON"):
        read(folder, on_bad_record="fail")


def test_other_sets_in_the_same_folder_are_counted(folder: Path) -> None:
    entities = document("NXNE1900000001.1", "철수가 갔다.", layout="sentence", NE=[])
    (folder / "NXNE1900000001.json").write_text(content("NXNE1900000001", entities, entities))
    (folder / "summaries.json").write_text('{"data": [{"document_id": "x"}]}')
    (folder / "cola.tsv").write_text("a\tb\n")
    documents, tally = read(folder, on_bad_record="fail")
    assert len(documents) == 5
    assert tally.dropped == {"document of another layout": 2, "file of another layout": 1}


def test_paragraphs_without_text_are_counted(tmp_path: Path) -> None:
    records = [document("WARW1.1", "", None, " 글 ", {"id": "x"}), document("WARW1.2", " "), document("WARW1.3"), 7]
    (tmp_path / "WARW1.json").write_text(content("WARW1", *records))
    documents, tally = read(tmp_path)
    assert [document.text for document in documents] == ["글"]
    assert tally.dropped == {"empty": 2, "document of another layout": 1}
    assert tally.fixed == {"paragraph without text left out": 4}


def test_archives_as_they_are_downloaded_and_decomposed_text(folder: Path) -> None:
    with zipfile.ZipFile(folder / "모두.zip", "w") as packed:
        for file in sorted(folder.glob("*.json")):
            packed.writestr(f"말뭉치/{file.name}", unicodedata.normalize("NFD", file.read_text()))
            file.unlink()
    documents, _ = read(folder)
    assert [document.text for document in documents] == list(TEXTS.values())
    assert documents[0].name == "모두.zip/말뭉치/ERRW1900000003.json: ERRW1900000003.1"
    assert len(texts(folder, sets=("newspaper",))) == 1


def test_an_unknown_set_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="newspaper"):
        Nikl.model_validate({"path": tmp_path, "sets": ("newspapers",)})
