from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import Field

from reforge.spec import Part, Problem, SpecError, load_source, one_of, validate

Refused = Callable[..., list[str]]
GOOD = """\
name: mlm
data:
  corpus: {kind: text, path: a.txt}
  block_tokens: 512
model:
  kind: reformer
  d_model: 512
optimizer:
  lr: 5.0e-4
train:
  max_steps: 10
"""


def test_a_right_spec_becomes_a_job(read: Callable[..., Any], job_type: type[Part]) -> None:
    job = read(GOOD, "optimizer.lr=1e-4", "scale={num_workers: 2}", "extra_models=[{kind: transformer}]")
    assert isinstance(job, job_type)
    assert job.data.corpus.path == Path("a.txt")
    assert job.optimizer.lr == 1e-4
    assert job.scale.num_workers == 2
    assert job.extra_models[0].kernel_sizes == (3, 4, 5)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        # types
        ("model.depth=six", "model.depth: must be an integer >= 1; got 'six'"),
        ("model.depth=0", "model.depth: must be an integer >= 1; got 0"),
        ("model.depth=3.5", "model.depth: must be an integer >= 1; got 3.5"),
        ("model.depth=true", "model.depth: must be an integer >= 1; got true"),
        ("model.depth='6'", "model.depth: must be an integer >= 1, without quotes; got '6'"),
        ("model.depth=", "model.depth: must be an integer >= 1; got null"),
        ("model.depth=[6]", "model.depth: must be an integer >= 1; got [6]"),
        ("optimizer.lr=true", "optimizer.lr: must be a number > 0; got true"),
        ("optimizer.lr='1e-4'", "optimizer.lr: must be a number > 0, without quotes; got '1e-4'"),
        ("optimizer.lr=.inf", "optimizer.lr: must be a finite number > 0; got .inf"),
        ("optimizer.lr=-.inf", "optimizer.lr: must be a finite number > 0; got -.inf"),
        ("optimizer.lr=.nan", "optimizer.lr: must be a finite number > 0; got .nan"),
        ("optimizer.lr=1e999", "optimizer.lr: must be a finite number > 0; got .inf"),
        ("objective.mask_prob=1", "objective.kind: missing; must be one of mlm"),
        ("objective={kind: mlm, mask_prob: 1}", "objective.mask_prob: must be a number > 0 and < 1; got 1"),
        ("train.resume=yes", "train.resume: must be true or false; got 'yes'"),
        ("train.resume=1", "train.resume: must be true or false; got 1"),
        ("name=2026", "name: must be a string, in quotes; got 2026"),
        ("name=true", "name: must be a string, in quotes; got true"),
        ("name=null", "name: must be a string; got null"),
        ("data.corpus.path=5", "data.corpus.path: must be a path, in quotes; got 5"),
        (
            "train.precision=bf61",
            "train.precision: must be 'auto', 'bf16' or 'fp32'; got 'bf61'; did you mean bf16?",
        ),
        ("train.precision=16", "train.precision: must be 'auto', 'bf16' or 'fp32'; got 16"),
        ("kind=finetune", "kind: must be 'pretrain'; got 'finetune'"),
        # lists and mappings
        ("optimizer.betas=0.9", "optimizer.betas: must be a list of 2: a number, a number; got 0.9"),
        ("optimizer.betas=[0.9]", "optimizer.betas: must be a list of 2: a number, a number; got [0.9]"),
        ("optimizer.betas=[1, 2, 3]", "optimizer.betas: must be a list of 2: a number, a number; got [1, 2, 3]"),
        ("optimizer.betas=[0.9, x]", "optimizer.betas[1]: must be a number; got 'x'"),
        ("optimizer.no_decay=bias", "optimizer.no_decay: must be a list of strings; got 'bias'"),
        ("optimizer.no_decay=[a, 1]", "optimizer.no_decay[1]: must be a string, in quotes; got 1"),
        ("model.axial_shape=8", "model.axial_shape: must be a list of 2: an integer, an integer or null; got 8"),
        ("model.axial_shape=[8, x]", "model.axial_shape[1]: must be an integer; got 'x'"),
        ("weights=[1]", "weights: must be a mapping of names to numbers; got [1]"),
        ("weights.a=x", "weights.a: must be a number; got 'x'"),
        ("optimizer=adam", "optimizer: must be a mapping; got 'adam'"),
        ("optimizer=", "optimizer: must be a mapping; got null"),
        ("scale=aut", "scale: must be a mapping or 'auto'; got 'aut'; did you mean auto?"),
        ("scale.num_workers=x", "scale.num_workers: must be an integer >= 1; got 'x'"),
        ("scale.num_worker=2", "scale.num_worker: unknown key; did you mean num_workers?"),
        ("scale.gpus_per_worker=all", "scale.gpus_per_worker: must be a number or 'auto'; got 'all'"),
        # kinds
        (
            "model={kind: reformr}",
            "model.kind: unknown kind; must be one of reformer, transformer; got 'reformr'; did you mean reformer?",
        ),
        ("model={kind: 5}", "model.kind: unknown kind; must be one of reformer, transformer; got 5"),
        (
            "model={kind: [reformer]}",
            "model.kind: unknown kind; must be one of reformer, transformer; got ['reformer']",
        ),
        ("model=reformer", "model: must be a mapping with a kind (reformer, transformer); got 'reformer'"),
        ("objective={kind: mml}", "objective.kind: unknown kind; must be one of mlm; got 'mml'; did you mean mlm?"),
        ("objective=mlm", "objective: must be a mapping with a kind (mlm); got 'mlm'"),
        ("extra_models=[{kind: reformer}, {}]", "extra_models[1].kind: missing; must be one of reformer, transformer"),
        ("extra_models=[{kind: reformer, depth: x}]", "extra_models[0].depth: must be an integer >= 1; got 'x'"),
        (
            "extra_models={kind: reformer}",
            "extra_models: must be a list of values, each a mapping with a kind (reformer, transformer); "
            "got {kind: 'reformer'}",
        ),
        (
            "model={kind: transformer, kernel_sizes: []}",
            "model.kernel_sizes: must be a list of at least 1 integers; got []",
        ),
        # keys
        ("model.num_heds=8", "model.num_heds: unknown key; did you mean num_heads?"),
        ("model.lr=8", "model.lr: unknown key; did you mean optimizer.lr?"),
        ("max_steps=8", "max_steps: unknown key; did you mean train.max_steps?"),
        ("optimizer.reformer=8", "optimizer.reformer: unknown key; the keys here are lr, betas, no_decay"),
        (
            "model.reformer=8",
            "model.reformer: unknown key; the keys here are kind, d_model, depth, num_heads, bucket_size, axial_shape",
        ),
        ("model.kernel_sizes=[3]", "model.kernel_sizes: unknown key for kind reformer; an option of kind transformer"),
        ("model.extends=a.yaml", "model.extends: must stand at the top level of a file"),
        # a part's own words, a part's own rules, rules across parts
        ("train.time_budget=2 decennia", "train.time_budget: must end in s, m or h; got '2 decennia'"),
        ("model.num_heads=7", "model.num_heads: must divide d_model (512); got 7"),
        ("extra_models=[{kind: reformer, depth: 101}]", "extra_models[0].depth: must be at most 100; got 101"),
        ("data.block_tokens=500", "data.block_tokens: must be a multiple of 2 x bucket_size (128); got 500"),
    ],
)
def test_one_mistake_gives_one_line(refused: Refused, override: str, problem: str) -> None:
    (line,) = refused(GOOD, override)
    assert line == f"command line: {override}: {problem}"


def test_all_mistakes_come_at_once_in_the_order_of_the_lines(refused: Refused) -> None:
    text = """\
data:
  corpus: {kind: kowki, path: a}
model:
  kind: reformer
  d_model: 100
  num_heads: 8
  depth: six
  bucketsize: 4
  d_model: 100
objective: {kind: mlm, mask_prob: 15}
train:
  precision: fp32
  <<: {max_steps: 3}
"""
    assert refused(text, "optimizer.lr=fast", "oops") == [
        "job.yaml:1: name: missing; must be a string",
        "job.yaml:2: data.corpus.kind: unknown kind; must be one of kowiki, text; got 'kowki'; did you mean kowiki?",
        "job.yaml:7: model.depth: must be an integer >= 1; got 'six'",
        "job.yaml:8: model.bucketsize: unknown key; did you mean bucket_size?",
        "job.yaml:9: model.d_model: the key stands twice; the first time at job.yaml:5",
        "job.yaml:10: objective.mask_prob: must be a number > 0 and < 1; got 15",
        "job.yaml:11: train.max_steps: missing; must be an integer >= 1",
        "job.yaml:13: train: merge keys (<<) are not taken; let the file say `extends: other.yaml`",
        "command line: oops: must have the form key.path=value",
        "command line: optimizer.lr=fast: optimizer.lr: must be a number > 0; got 'fast'",
    ]


def test_each_problem_names_the_file_it_came_from(refused: Refused) -> None:
    Path("base.yaml").write_text("# shared\n" + GOOD + "scale: {num_workers: 0}\n")
    assert refused("extends: base.yaml\nmodel:\n  dept: 2\n", "data.block_tokens=half") == [
        "base.yaml:13: scale.num_workers: must be an integer >= 1; got 0",
        "job.yaml:3: model.dept: unknown key; did you mean depth?",
        "command line: data.block_tokens=half: data.block_tokens: must be an integer; got 'half'",
    ]


def test_a_missing_key_is_placed_at_the_mapping_around_it(refused: Refused) -> None:
    assert refused("# first\nname: x\ndata:\n\n  block_tokens: 512\n") == [
        "job.yaml:2: train: missing; must be a mapping",
        "job.yaml:3: data.corpus: missing; must be a mapping with a kind (kowiki, text)",
    ]


def test_an_override_into_a_mapping_leaves_the_mappings_place_alone(refused: Refused) -> None:
    assert refused(
        "name: x\ntrain:\n  precision: auto\ndata: {corpus: {kind: text, path: a}}\n", "train.resume=no"
    ) == [
        "job.yaml:2: train.max_steps: missing; must be an integer >= 1",
        "command line: train.resume=no: train.resume: must be true or false; got 'no'",
    ]


@pytest.mark.parametrize(
    "wrong",
    ["optimizer.lr=x", "train.max_steps=x", "data.corpus.kind=x", "name=5", "model.depth=x", "scale=x", "foo=1"],
)
def test_a_wrong_type_hides_no_broken_rule_elsewhere(refused: Refused, wrong: str) -> None:
    lines = refused(GOOD, wrong, "model.num_heads=7", "data.block_tokens=500")
    assert len(lines) == 3
    assert any("model.num_heads: must divide d_model" in line for line in lines)
    assert any("data.block_tokens: must be a multiple of" in line for line in lines)


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.d_model=x", "model.num_heads=7"],  # the rule reads d_model
        ["model.bucket_size=x", "data.block_tokens=500"],  # the rule lies across two parts
        ["model.kind=x", "data.block_tokens=500"],  # the whole part is unknown
        ["data.block_tokens=x", "model.bucket_size=300"],  # the rule is about the wrong value itself
        ["model.num_heds=7", "model.d_model=500"],  # 8 heads do not divide 500, but 8 is not what was meant
    ],
)
def test_no_rule_is_applied_to_what_is_wrong_already(refused: Refused, overrides: list[str]) -> None:
    (line,) = refused(GOOD, *overrides)
    assert overrides[0] in line


def test_a_wrong_value_hides_no_rule_of_its_part_that_does_not_read_it(refused: Refused) -> None:
    lines = refused(GOOD.replace("d_model: 512", "axial_shape: x\n  num_heads: 7\n  depth: 101"))
    assert [line.split(": ")[1] for line in lines] == ["model.axial_shape", "model.num_heads", "model.depth"]


class Deep(Part):
    """Reads its neighbours through a property and a method, as larger parts do."""

    width: int
    height: int = 4

    @property
    def area(self) -> int:
        return self.width * self.height

    def problems(self) -> Any:
        yield from super().problems()
        assert isinstance(self, Deep)
        if self.height > 3:
            yield Problem(("height",), "must be at most 3", self.height)
        if self.area > 100:
            yield Problem(("width",), "must be less", self.width)


class Nested(Part):
    first: Deep
    many: tuple[Deep, ...] = ()
    child: "Nested | None" = None


def nested(text: str) -> list[str]:
    Path("job.yaml").write_text(text)
    with pytest.raises(SpecError) as caught:
        validate(Nested, load_source(Path("job.yaml")))
    return [str(problem) for problem in caught.value.problems]


def test_a_part_that_lacks_a_required_value_still_has_its_other_rules_checked() -> None:
    text = (
        "first: {width: x}\nmany:\n- {width: 1}\n- {}\nchild:\n  first: {width: 1, heigt: 3}\n  many: [{width: 90}]\n"
    )
    assert nested(text) == [
        "job.yaml:1: first.height: must be at most 3; got 4",
        "job.yaml:1: first.width: must be an integer; got 'x'",
        "job.yaml:3: many[0].height: must be at most 3; got 4",
        "job.yaml:4: many[1].height: must be at most 3; got 4",
        "job.yaml:4: many[1].width: missing; must be an integer",
        "job.yaml:6: child.first.heigt: unknown key; did you mean height?",
        "job.yaml:7: child.many[0].height: must be at most 3; got 4",
        "job.yaml:7: child.many[0].width: must be less; got 90",
    ]


class Odd(Part):
    kind: Literal["odd"] = "odd"
    odd: Literal[1, 2] = 1
    size: int | str | None = None
    code: str = Field("ab", min_length=2, max_length=3)
    tag: str = Field("a", pattern="^[a-z]$")
    label: str = Field("a", min_length=1)
    step: int = Field(8, multiple_of=8, le=64)
    steps: tuple[int, ...] = Field((1, 2), min_length=2, max_length=4)


if TYPE_CHECKING:
    AnyOdd = Odd
else:
    AnyOdd = one_of({"odd": Odd})


class Odds(Part):
    it: AnyOdd | None = None
    size: int | tuple[int, ...] = 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("it: {kind: odd, odd: 3}", "it.odd: must be 1 or 2; got 3"),
        ("it: {kind: odd, size: [1]}", "it.size: must be an integer, a string or null; got [1]"),
        ("it: {kind: odd, code: abcd}", "it.code: must be a string of 2 to 3 characters; got 'abcd'"),
        ("it: {kind: odd, tag: A}", "it.tag: must be a string that matches ^[a-z]$; got 'A'"),
        ("it: {kind: odd, label: ''}", "it.label: must be a string that is not empty; got ''"),
        ("it: {kind: odd, step: 7}", "it.step: must be an integer <= 64 and a multiple of 8; got 7"),
        ("it: {kind: odd, steps: [1]}", "it.steps: must be a list of 2 to 4 integers; got [1]"),
        ("it: {kind: even}", "it.kind: unknown kind; must be one of odd; got 'even'"),
        ("it: odd", "it: must be a mapping with a kind (odd) or null; got 'odd'"),
        ("size: x", "size: must be an integer or a list of integers; got 'x'"),
        ("size: [1, x]", "size[1]: must be an integer; got 'x'"),
    ],
)
def test_rules_read_like_sentences(text: str, problem: str) -> None:
    Path("job.yaml").write_text(text)
    with pytest.raises(SpecError) as caught:
        validate(Odds, load_source(Path("job.yaml")))
    (found,) = caught.value.problems
    assert str(found) == f"job.yaml:1: {problem}"


def test_problems_carry_their_parts_for_programs_that_read_them(refused: Refused) -> None:
    refused(GOOD, "model.num_heads=7")
    with pytest.raises(SpecError) as caught:
        validate(Deep, load_source(Path("job.yaml")))
    assert Problem(("width",), "missing; must be an integer", place="job.yaml:1") in caught.value.problems


def test_what_parts_found_is_remembered_for_the_next_job(job_type: type[Part], folder: Path) -> None:
    (folder / "job.yaml").write_text(GOOD, encoding="utf-8")
    remembered: dict[object, Any] = {}
    for overrides in (["model.num_heads=3"], ["model.num_heads=3", "optimizer.lr=1"], ["model.num_heads=4"]):
        source = load_source(Path("job.yaml"), overrides)
        try:
            validate(job_type, source, remembered=remembered)
            assert overrides == ["model.num_heads=4"]
        except SpecError as error:
            assert [problem.rule for problem in error.problems] == ["must divide d_model (512)"]  # noqa: PT017
            assert [problem.place for problem in error.problems] == ["command line: model.num_heads=3"]  # noqa: PT017
    assert len([key for key in remembered if key[0] == ("model",)]) == 2
