"""Entities as stretches of a text, in every layout of JSON; what does not fit its text is named by its record."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from reforge.corpora import Tally
from reforge.corpora.labelled import TaggedExample
from reforge.corpora.labelled.iob import spans
from reforge.corpora.labelled.json_spans import JsonSpans
from reforge.spec import UserError

TEXT = "에이다는 서울에 산다."
ADA = {"start": 0, "end": 3, "label": "PS"}
SEOUL = {"start": 5, "end": 7, "label": "LC"}
RECORD = {"text": TEXT, "entities": [SEOUL, ADA]}
OTHER = {"text": "밤이다", "entities": []}
FOUND = [("PS", 0, 3), ("LC", 5, 7)]


def nikl(*sentences: dict[str, Any]) -> dict[str, Any]:
    return {"id": "x", "metadata": {}, "document": [{"id": "x.1", "sentence": list(sentences)}]}


NIKL_ADA = {"id": 1, "form": "에이다", "label": "PS", "begin": 0, "end": 3}
NIKL = {
    "id": "x.1.1",
    "form": TEXT,
    "word": [],
    "NE": [NIKL_ADA, NIKL_ADA | {"form": "서울", "label": "LC", "begin": 5, "end": 7}],
}


def lines(*records: Any) -> bytes:
    return "\n".join(json.dumps(record, ensure_ascii=False) for record in records).encode()


def read(folder: Path, value: Any, labelled: bool = True, **options: Any) -> tuple[list[Any], Tally]:
    (folder / "ner.json").write_bytes(value if isinstance(value, bytes) else lines(value))
    tally = Tally()
    return list(JsonSpans(path=folder / "ner.json", **options).read(labelled=labelled, tally=tally)), tally


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        (lines(RECORD, OTHER), ["ner.json:1", "ner.json:2"]),
        (b"\xef\xbb\xbf\n" + lines(RECORD, OTHER).replace(b"\n", b"\r\n\r\n"), ["ner.json:2", "ner.json:4"]),
        ([RECORD, OTHER], ["ner.json: record 1", "ner.json: record 2"]),
        (json.dumps([RECORD, OTHER], indent=2).encode(), ["ner.json: record 1", "ner.json: record 2"]),
        ({"text": TEXT, "entities": [[0, 3, "PS"], [5, 7, "LC"]]}, ["ner.json:1"]),
        (
            [[TEXT, {"entities": [[0, 3, "PS"], [5, 7, "LC"]]}], ["밤이다", {"entities": []}]],
            ["ner.json: record 1", "ner.json: record 2"],
        ),
        (json.dumps(RECORD, indent=2).encode(), ["ner.json: record 1"]),
        (nikl(NIKL, {"id": "x.1.2", "form": "밤이다", "NE": []}), ["x.1.1", "x.1.2"]),
        (json.dumps(nikl(NIKL), indent=1).encode(), ["x.1.1"]),
    ],
    ids=["lines", "BOM CRLF", "list", "indented list", "spaCy", "spaCy pairs", "one object", "NIKL", "indented NIKL"],
)
def test_every_layout(tmp_path: Path, value: Any, keys: list[str]) -> None:
    examples, _ = read(tmp_path, value)
    assert [example.key for example in examples] == keys
    assert spans(examples[0].tags) == FOUND
    assert [(example.text, set(example.tags)) for example in examples[1:]] == [("밤이다", {"O"})] * (len(keys) - 1)


def test_units_are_characters_or_words_cut_by_entities(tmp_path: Path) -> None:
    [example], tally = read(tmp_path, RECORD)
    assert example.units == tuple((index, index + 1) for index in range(len(TEXT)))
    [example], tally = read(tmp_path, RECORD, units="words")
    assert [TEXT[start:end] for start, end in example.units] == ["에이다", "는", "서울", "에", "산다", "."]
    assert example.tags == ("B-PS", "O", "B-LC", "O", "O", "O")
    assert tally.fixed == {"word cut where an entity begins or ends": 2}


def test_other_keys(tmp_path: Path) -> None:
    record = {"doc": {"body": TEXT}, "ner": {"found": [{"from": 0, "to": 3, "type": "PS"}]}}
    [example], _ = read(
        tmp_path, record, text="doc.body", entities="ner.found", start="from", end="to", label="type", units="words"
    )
    assert example.tags == ("B-PS", "O", "O", "O", "O")


def test_overlaps_fail_or_leave_the_longest(tmp_path: Path) -> None:
    record = RECORD | {"entities": [ADA, {"start": 0, "end": 4, "label": "OG"}, SEOUL, SEOUL]}
    with pytest.raises(UserError, match=r"ner\.json:1: entities must not overlap .* got PS \[0, 3\) and OG \[0, 4\)"):
        read(tmp_path, record)
    [example], tally = read(tmp_path, record, overlaps="longest")
    assert spans(example.tags) == [("OG", 0, 4), ("LC", 5, 7)]
    assert tally.fixed == {"entity left out that a longer one overlaps": 1}


def test_space_at_an_entitys_end_is_left_out_and_counted(tmp_path: Path) -> None:
    [example], tally = read(tmp_path, RECORD | {"entities": [{"start": 4, "end": 7, "label": "LC"}]})
    assert spans(example.tags) == [("LC", 5, 7)]
    assert tally.fixed == {"space at an entity's end left out of it": 1}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            lines(OTHER, RECORD | {"entities": [ADA | {"end": 99}]}),
            r"ner\.json:2: an entity must lie within the 12 char.* got PS \[0, 99\)",
        ),
        (RECORD | {"entities": [ADA | {"end": 0}]}, r"ner\.json:1: an entity must lie within"),
        (RECORD | {"entities": [ADA | {"start": -1}]}, r"ner\.json:1: an entity must lie within"),
        (RECORD | {"entities": [ADA | {"start": True}]}, "an entity must have whole numbers 'start' and 'end'"),
        (
            RECORD | {"entities": [{"start": 0, "stop": 3, "label": "PS"}]},
            "must have whole numbers 'start' and 'end' .*stop: 3",
        ),
        (RECORD | {"entities": [[0, 3]]}, "must have whole numbers"),
        (RECORD | {"entities": [[4, 5, "PS"]]}, r"ner\.json:1: an entity must hold a character, got PS \[4, 5\)"),
        (
            {"text": TEXT, "entity": []},
            r"ner\.json:1: must have a list 'entities', has text, entity; did you mean entity\?",
        ),
        ({"texts": TEXT, "entities": []}, r"ner\.json:1: must have a text 'text', .*did you mean texts\?"),
        ({"text": " ", "entities": []}, r"ner\.json:1: must have a text 'text', it is empty"),
        (
            nikl(NIKL | {"NE": [NIKL_ADA | {"begin": 1}]}),
            r"sentence x\.1\.1: PS \[1, 3\) must be '에이다', there is '이다'",
        ),
        (nikl({"id": "x.1.1", "form": TEXT}), r"sentence x\.1\.1: must have a list 'NE', has id, form"),
        ({"document": [{"id": "x"}]}, r"document 1: must have a list 'sentence', has id"),
        ([RECORD, 3], r"ner\.json: record 2: must be an object, got 3"),
        (b'{"text": \n', r"ner\.json:1: no JSON: EOF while parsing a value at column"),
        (lines(RECORD) + b"\n{", r"ner\.json:2: no JSON"),
        (b"[]", r"ner\.json holds no example"),
        (b"", r"ner\.json holds no example"),
        (json.dumps([RECORD], ensure_ascii=False).encode("cp949"), r"is not UTF-8: .* set encoding: cp949"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path, value)
    assert "\n" not in str(caught.value)


def test_bad_records_are_counted_by_reason(tmp_path: Path) -> None:
    bad = RECORD | {"entities": [ADA | {"end": 99}]}
    examples, tally = read(tmp_path, [bad, RECORD, 3], on_bad_record="skip")
    assert [example.key for example in examples] == ["ner.json: record 2"]
    assert tally.dropped == {"entity outside its text": 1, "record that is no object": 1}
    examples, tally = read(tmp_path, nikl(NIKL, {"id": "x.1.2", "form": "", "NE": []}))
    assert (len(examples), tally.dropped) == (1, {"empty sentence": 1})


@pytest.mark.parametrize(
    "value", [{"text": TEXT}, {"text": TEXT, "entities": [[99, 1, 2]]}, nikl({"id": 7, "form": TEXT})]
)
def test_a_set_to_be_predicted_needs_no_entities(tmp_path: Path, value: Any) -> None:
    [example], _ = read(tmp_path, value, labelled=False, units="words")
    assert (example.text, example.tags) == (TEXT, None)
    assert example.units == ((0, 4), (5, 8), (9, 11), (11, 12))


def test_packed_files(tmp_path: Path) -> None:
    (tmp_path / "ner.jsonl.gz").write_bytes(gzip.compress(lines(RECORD)))
    [example] = JsonSpans(path=tmp_path).read()
    assert isinstance(example, TaggedExample)
    assert spans(example.tags or ()) == FOUND
