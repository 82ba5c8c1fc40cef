import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from reforge.spec import Source, SpecError, load_source
from reforge.spec.tree import nested, written


def load(text: str, *overrides: str) -> Source:
    Path("job.yaml").write_text(text, encoding="utf-8")
    return load_source(Path("job.yaml"), overrides)


def lines(error: SpecError) -> list[str]:
    return [str(problem) for problem in error.problems]


def refusal(path: str, overrides: Sequence[str] = ()) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_source(Path(path), overrides)
    return lines(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("5E3", 5000.0),
        ("1.", 1.0),
        (".5", 0.5),
        ("-1.5e+3", -1500.0),
        (".inf", float("inf")),
        ("12", 12),
        ("+7", 7),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("off", "off"),
        ("on", "on"),
        ("yes", "yes"),
        ("2026-11-20", "2026-11-20"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("'1e-4'", "1e-4"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("[1, a, 1e-4]", [1, "a", 1e-4]),
        ("{a: {b: no}}", {"a": {"b": "no"}}),
        ("한국어", "한국어"),
    ],
)
def test_scalars_follow_the_yaml_1_2_core_schema(text: str, value: object) -> None:
    from_file = load(f"key: {text}").data["key"]
    from_command_line = load("other: 1", f"key={text}").data["key"]
    assert from_file == from_command_line == value
    assert type(from_file) is type(from_command_line) is type(value)


def test_every_key_and_value_knows_its_line() -> None:
    source = load("# a comment\nmodel:\n  depth:\n    6\n  sizes:\n  - 1\n  - 2\nname: x\n", "model.lr=3")
    assert source.place(()) == "job.yaml:2"
    assert source.place(("model",)) == "job.yaml:2"
    assert source.place(("model", "depth")) == "job.yaml:4"
    assert source.key_place(("model", "depth")) == "job.yaml:3"
    assert source.place(("model", "sizes")) == "job.yaml:5"
    assert source.place(("model", "sizes", 1)) == "job.yaml:7"
    assert source.place(("model", "absent", "deeper")) == "job.yaml:2"
    assert source.place(("model", "lr")) == source.key_place(("model", "lr")) == "command line: model.lr=3"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\nb: 2\na: 3\n", "job.yaml:3: a: the key stands twice; the first time at job.yaml:1"),
        ("m: {a: 1,\n a: 2}\n", "job.yaml:2: m.a: the key stands twice; the first time at job.yaml:1"),
        (
            "a: &x {b: 1}\nc:\n  <<: *x\n",
            "job.yaml:3: c: merge keys (<<) are not taken; let the file say `extends: other.yaml`",
        ),
        ("m:\n  1: a\n", "job.yaml:2: m: a key must be text: write it in quotes, '1'"),
        ("true: a\n", "job.yaml:1: a key must be text: write it in quotes, 'true'"),
        ("[a]: b\n", "job.yaml:1: a key must be text, not a list or a mapping"),
        ("a: !!python/object:os.system x\n", "job.yaml:1: a: must be text that the tag python/object:os.system"),
        ("a: !!int six\n", "job.yaml:1: a: must be text that the tag int stands for; got 'six'"),
        ("a: !!set {b}\n", "job.yaml:1: a: the tag set has no meaning in a spec"),
        ('a: "\\ud800"\n', "job.yaml:1: a: half a surrogate pair is no character"),
        ("a: " + "9" * 5000, "job.yaml:1: a: must be text that the tag int stands for; got '999"),
    ],
)
def test_what_yaml_passes_in_silence_is_a_problem(text: str, problem: str) -> None:
    (found,) = load(text).problems
    assert str(found).startswith(problem)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "job.yaml:1: the file is empty: must be a mapping of options"),
        (b"# only a comment\n", "job.yaml:1: the file is empty: must be a mapping of options"),
        (b"- a\n- b\n", "job.yaml:1: must be a mapping of options; got ['a', 'b']"),
        (b"just words\n", "job.yaml:1: must be a mapping of options; got 'just words'"),
        (b"a: 1\nb:\n\tc: 2\n", "job.yaml:3: not YAML: a tab where only spaces may indent or separate"),
        (
            b"a: 1\nb: {c: [1, 2}\n",
            "job.yaml:2: not YAML: while parsing a flow sequence: expected ',' or ']', but got '}'",
        ),
        (b"a: {b: 1\n\n", "job.yaml:3: not YAML: while parsing a flow mapping that starts on line 1: expected"),
        (b"a: b: c\n", "job.yaml:1: not YAML: mapping values are not allowed here"),
        (b"a: *b\n", "job.yaml:1: not YAML: found undefined alias 'b'"),
        (b"a: 1\n---\nb: 2\n", "job.yaml:2: not YAML: expected a single document"),
        (b"a: 1\nb: \x00\x01\n", "job.yaml:2: not YAML: character U+0000 is not allowed"),
        (b'a: "\\U00110000"\n', "job.yaml:1: not YAML: an escape sequence names no character"),
        (b"a: 1\nname: \xb0\xa1\n", "job.yaml:2: not UTF-8: byte 0xb0 at offset 11"),
        (b"\xff\xfea\x00", "job.yaml:1: not UTF-8: byte 0xff at offset 0"),
        (b"a: &x [1, *x]\n", "job.yaml:1: a[1]: an alias may not stand inside what it names"),
        (b"a: " + b"[" * 6000, "job.yaml:1: nested too deeply"),
        (b"a: " + b"[" * 80 + b"]" * 80, "job.yaml:1: a: nested too deeply"),
        (b"a: 1\n" * 300_000, "job.yaml: larger than 1048576 bytes: this is no job spec"),
    ],
)
def test_a_file_that_holds_no_spec_gives_one_problem(content: bytes, problem: str) -> None:
    Path("job.yaml").write_bytes(content)
    (found,) = refusal("job.yaml")
    assert found.startswith(problem)


def test_aliases_that_multiply_are_refused_not_expanded() -> None:
    rows = ["a0: &a0 [1,1,1,1,1,1,1,1,1]"]
    rows += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    Path("job.yaml").write_text("\n".join(rows))
    (found,) = refusal("job.yaml")
    assert "too many values through aliases" in found


def test_an_alias_stands_for_its_value() -> None:
    assert load("a: &x [1]\nb: *x\n").data == {"a": [1], "b": [1]}


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    Path("job.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert load_source(Path("job.yaml")).data == {"a": 1}


def test_files_that_cannot_be_read() -> None:
    Path("specs").mkdir()
    Path("specs/mlm_kowiki.yaml").write_text("a: 1\n")
    assert refusal("specs/mlm_kowik.yaml") == [
        "specs/mlm_kowik.yaml: no such file; did you mean specs/mlm_kowiki.yaml?"
    ]
    assert refusal("specs/other.yaml") == ["specs/other.yaml: no such file"]
    assert refusal("spec/mlm.yaml") == ["spec/mlm.yaml: no such folder: spec"]
    assert refusal("specs") == ["specs: must be a file, not a folder"]
    (too_long,) = refusal("x" * 300)
    assert too_long.endswith("the file cannot be read: File name too long")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission() -> None:
    Path("job.yaml").touch(mode=0)
    assert refusal("job.yaml") == ["job.yaml: the file cannot be read: Permission denied"]


def test_names_outside_the_working_directory_are_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    assert refusal("../job.yaml") == [f"{folder}/job.yaml: no such file"]


def write(**files: str) -> None:
    for name, text in files.items():
        path = Path(name.replace("__", "/") + ".yaml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def test_extends_merges_mappings_and_replaces_the_rest() -> None:
    write(
        bases__deep="model: {kind: a, depth: 1, width: 9}\nlist: [1, 2]\nname: deep\n",
        bases__middle="extends: deep.yaml\nmodel: {depth: 2}\nseed: 5\n",
        job="extends: bases/middle.yaml\nmodel: {heads: 3}\nlist: [3]\nseed: null\n",
    )
    source = load_source(Path("job.yaml"))
    assert source.data == {
        "model": {"kind": "a", "depth": 2, "width": 9, "heads": 3},
        "list": [3],
        "name": "deep",
        "seed": None,
    }
    assert source.place(("model", "width")) == "bases/deep.yaml:1"
    assert source.place(("model", "depth")) == "bases/middle.yaml:2"
    assert source.place(("model", "heads")) == "job.yaml:2"


def test_another_kind_leaves_the_options_of_the_old_one_behind() -> None:
    write(base="kind: pretrain\nmodel: {kind: a, depth: 1}\nname: x\n")
    assert load("extends: base.yaml\nmodel: {kind: b}\n").data["model"] == {"kind": "b"}
    assert load("extends: base.yaml\nmodel: {kind: a}\n").data["model"] == {"kind": "a", "depth": 1}


def test_another_kind_of_job_keeps_what_it_extends() -> None:
    write(base="kind: pretrain\nname: x\n")
    assert load("extends: base.yaml\nkind: tune\n").data == {"kind": "tune", "name": "x"}


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        (
            {"job": "a: 1\nextends: bse.yaml\n", "base": "b: 1\n"},
            "job.yaml:2: extends: no such file; got 'bse.yaml'; did you mean base.yaml?",
        ),
        ({"job": "extends: no/base.yaml\n"}, "job.yaml:1: extends: no such folder: no; got 'no/base.yaml'"),
        ({"job": "extends: [a]\n"}, "job.yaml:1: extends: must be the path of a YAML file; got ['a']"),
        ({"job": "extends:\n"}, "job.yaml:1: extends: must be the path of a YAML file; got null"),
        ({"job": "extends: job.yaml\n"}, "job.yaml:1: extends: must not lead back to itself: job.yaml -> job.yaml"),
        (
            {"job": "extends: b.yaml\n", "b": "extends: c.yaml\n", "c": "x: 1\nextends: b.yaml\n"},
            "c.yaml:2: extends: must not lead back to itself: job.yaml -> b.yaml -> c.yaml -> b.yaml",
        ),
        ({"job": "extends: b.yaml\n", "b": "a: [\n"}, "b.yaml:2: not YAML: while parsing a flow node"),
        ({"job": "extends: b.yaml\n", "b": "- 1\n"}, "b.yaml:1: must be a mapping of options; got [1]"),
    ],
)
def test_extends_that_leads_nowhere(files: dict[str, str], problem: str) -> None:
    write(**files)
    (found,) = refusal("job.yaml")
    assert found.startswith(problem)


def test_problems_found_on_the_way_to_an_unreadable_base_are_kept() -> None:
    write(job="extends: b.yaml\na: 1\na: 2\n")
    assert refusal("job.yaml", ["x"]) == [
        "job.yaml:1: extends: no such file; got 'b.yaml'",
        "job.yaml:3: a: the key stands twice; the first time at job.yaml:2",
        "command line: x: must have the form key.path=value",
    ]


def test_overrides_apply_last_and_the_later_wins() -> None:
    source = load("a: {b: 1, c: 2}\n", "a.b=3", "a.b=4", "new.deep.key=[x, 1e-3]", "a.d={e: 5}", "text=a=b")
    assert source.data == {
        "a": {"b": 4, "c": 2, "d": {"e": 5}},
        "new": {"deep": {"key": ["x", 1e-3]}},
        "text": "a=b",
    }
    assert source.place(("a", "b")) == "command line: a.b=4"
    assert source.place(("a", "d", "e")) == "command line: a.d={e: 5}"
    assert source.place(("a",)) == "job.yaml:1"


@pytest.mark.parametrize("overrides", [["m.depth=3", "m.kind=b"], ["m.kind=b", "m.depth=3"]])
def test_an_overridden_kind_drops_the_files_options_not_the_other_overrides(overrides: list[str]) -> None:
    assert load("m: {kind: a, width: 1}\n", *overrides).data == {"m": {"kind": "b", "depth": 3}}


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("foo", "must have the form key.path=value"),
        ("=3", "must have the form key.path=value"),
        ("a..b=1", "must have the form key.path=value"),
        (".a=1", "must have the form key.path=value"),
        ("a. b=1", "must have the form key.path=value"),
        ("extends=b.yaml", "extends: must stand in a spec file, not on the command line"),
        ("a.b=[1", "a.b: not YAML: while parsing a flow sequence: expected ',' or ']', but the file ends"),
        ("a={b: 1, b: 2}", "a.b: the key stands twice; the first time at command line: a={b: 1, b: 2}"),
        ("list.1=3", "list: a list is overridden as a whole: key=[a, b]; got [1, 2]"),
    ],
)
def test_malformed_overrides(override: str, problem: str) -> None:
    (found,) = load("list: [1, 2]\n", override).problems
    assert str(found) == f"command line: {override}: {problem}"


def test_a_section_of_key_paths_is_opened_so_that_files_and_overrides_merge() -> None:
    Path("base.yaml").write_text("space: {a.b: 1, a.c.d: 2, e: {f.g: 3}}\nother: {a.b: 1}\n", encoding="utf-8")
    Path("job.yaml").write_text("extends: base.yaml\nspace:\n  a:\n    b: 4\n  a2.b: 5\n", encoding="utf-8")
    source = load_source(Path("job.yaml"), ["space.a.c.d=6"], dotted=("space", "missing"))
    assert source.data == {
        "space": {"a": {"b": 4, "c": {"d": 6}}, "e": {"f.g": 3}, "a2": {"b": 5}},
        "other": {"a.b": 1},
    }
    assert source.place(("space", "a", "b")) == "job.yaml:4"
    assert source.key_place(("space", "a2", "b")) == "job.yaml:5"


@pytest.mark.parametrize("section", ["{a.b: 1, a: {c: 2}}", "{a: {c: 2}, a.b: 1}", "{a..b: 1}", "{a.b: 1, a.b.c: 2}"])
def test_a_section_whose_key_paths_clash_is_left_as_it_is(section: str) -> None:
    Path("job.yaml").write_text(f"space: {section}\n", encoding="utf-8")
    assert load_source(Path("job.yaml"), dotted=("space",)).data == load(f"space: {section}").data


def test_values_are_laid_over_a_source_with_their_types_and_places() -> None:
    source = load("model: {kind: a, x: 1}\nlr: 1\n")
    trees = [
        nested(["model", "kind"], written("b", "there:1")),
        nested(["model", "sizes"], written((3, [4, {"k": None}]), "there:2")),
        nested(["lr"], written(1.0e-4, "there:3")),
    ]
    over = source.overlaid(trees)
    assert over.data == {"model": {"kind": "b", "sizes": [3, [4, {"k": None}]]}, "lr": 1e-4}  # x went with its kind
    assert over.place(("model", "sizes", 1)) == "there:2"
    assert over.place(("lr",)) == "there:3"
    assert source.data == {"model": {"kind": "a", "x": 1}, "lr": 1}


def test_the_kind_of_the_extended_job_is_not_forgotten() -> None:
    Path("base.yaml").write_text("kind: finetune\n", encoding="utf-8")
    Path("middle.yaml").write_text("extends: base.yaml\nkind: tune\n", encoding="utf-8")
    source = load("extends: middle.yaml\nkind: tune\n")
    assert source.base_kind is not None
    assert (source.base_kind.value, source.base_kind.place) == ("finetune", "base.yaml:1")
    assert load("extends: base.yaml\nkind: finetune\n").base_kind is None
    assert load("kind: finetune\n").base_kind is None
