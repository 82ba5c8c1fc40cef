from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from reforge.search.dimension import Choice, Range
from reforge.spec import SpecError, load_source

Compile = Callable[..., Any]
Refused = Callable[..., list[str]]


def test_every_form_of_a_parameter_is_read(compiled: Compile) -> None:
    search = compiled("""\
  optimizer.lr: {low: 5.0e-5, high: 1.0e-3, log: true}
  optimizer: {weight_decay: [0.0, 1e-4], schedule: {warmup_steps: {low: 0, high: 10}}}
  train.max_epochs: {low: 0.5, high: 2, step: 0.5}
  train.batch_size: {low: 8, high: 32, step: 8}
  train.patience: [null, 3]
  train.seed: 7
  head.kernel_sizes: [[3, 4, 5], [4, 5]]
""")
    found = {dimension.name: dimension.domain for dimension in search.space.dimensions}
    assert found == {
        "optimizer.lr": Range(5e-5, 1e-3, log=True),
        "optimizer.weight_decay": Choice((0.0, 1e-4)),
        "optimizer.schedule.warmup_steps": Range(0, 10, is_int=True),
        "train.max_epochs": Range(0.5, 2, step=0.5),
        "train.batch_size": Range(8, 32, step=8, is_int=True),
        "train.patience": Choice((None, 3)),
        "head.kernel_sizes": Choice(([3, 4, 5], [4, 5])),
    }
    assert [fixed.path for fixed in search.space.constants] == ["train.seed"]
    assert found["train.patience"].labels == ("null", "3")
    assert found["head.kernel_sizes"].labels == ("[3, 4, 5]", "[4, 5]")
    assert search.options.name == "search"


def test_a_draw_becomes_a_job_whose_values_keep_their_types(compiled: Compile) -> None:
    search = compiled("""\
  optimizer.lr: [1.0e-4]
  train.patience: [null]
  train.seed: 7
  head: {kind: [cnn], kernel_sizes: [[4, 5]]}
""")
    assignment = search.space.assignment(search.space.draw(Random(0)))
    assert assignment == {
        "optimizer.lr": 1e-4,
        "train.patience": None,
        "head.kind": "cnn",
        "head.kernel_sizes": [4, 5],
        "train.seed": 7,
    }
    job = search.job(assignment)
    assert (job.optimizer.lr, job.train.patience, job.train.seed) == (1e-4, None, 7)
    assert (job.head.kernel_sizes, job.head.num_filters, job.head.dropout) == ((4, 5), 100, 0.3)  # the base's own kept
    assert job.kind == "finetune"


CONDITIONAL = """\
  head:
    kind: [cnn, linear]
    when:
      cnn:
        num_filters: [100, 200]
        dropout: [0.1, 0.2]
      linear:
        pool: [cls, mean]
        dropout: [0.1, 0.2]
        optimizer.schedule:
          kind: [linear, cosine]
          when:
            cosine: {final_lr_fraction: [0.0, 0.1], train.seed: 5}
"""


def test_conditional_parameters_to_any_depth(compiled: Compile) -> None:
    search = compiled(CONDITIONAL)
    cnn, linear = (("head.kind", frozenset({kind})) for kind in ("cnn", "linear"))
    assert {dimension.name: dimension.when for dimension in search.space.dimensions} == {
        "head.kind": (),
        "head.num_filters": (cnn,),
        "head.dropout": (("head.kind", frozenset({"cnn", "linear"})),),  # the same in both: one parameter
        "head.pool": (linear,),
        "optimizer.schedule.kind": (linear,),
        "optimizer.schedule.final_lr_fraction": (linear, ("optimizer.schedule.kind", frozenset({"cosine"}))),
    }
    assert search.space.size() == 2 * 2 + 2 * 2 * (1 + 2)
    values = {"head.kind": "linear", "head.dropout": 0.1, "head.pool": "mean", "optimizer.schedule.kind": "cosine"}
    assert [each.name for each in search.space.active(values)] == [
        "head.kind",
        "head.dropout",
        "head.pool",
        "optimizer.schedule.kind",
        "optimizer.schedule.final_lr_fraction",
    ]
    job = search.job(search.space.assignment({**values, "optimizer.schedule.final_lr_fraction": 0.1}))
    assert (job.head.kind, job.head.pool, job.head.dropout) == ("linear", "mean", 0.1)
    assert (job.optimizer.schedule.final_lr_fraction, job.train.seed) == (0.1, 5)
    assert search.job(search.space.assignment({**values, "optimizer.schedule.kind": "linear"})).train.seed == 1


def test_a_path_that_is_different_in_each_branch_has_a_name_in_each(compiled: Compile) -> None:
    search = compiled("""\
  model.depth: {values: [2, 4], when: {'2': {d_model: [64, 128]}, '4': {d_model: [32, 64]}}}
""")
    assert [dimension.name for dimension in search.space.dimensions] == [
        "model.depth",
        "model.d_model[2]",
        "model.d_model[4]",
    ]
    drawn = {tuple(assignment.values()) for assignment in search.space.draws(50, seed=1)}
    assert drawn == {(2, 64), (2, 128), (4, 32), (4, 64)}


def test_key_paths_and_mappings_overrides_and_extended_spaces_all_merge(compiled: Compile) -> None:
    search = compiled(
        "  optimizer.lr: [0.1, 0.2]\n  optimizer.eps: [1.0e-6]\n  train: {seed: [1]}",
        overrides=("space.optimizer.lr=[0.3]", "space.train.batch_size=[4, 8]", "train.max_epochs=9"),
    )
    assert search.space.size() == 2
    assert search.space.assignment(search.space.draw(Random(0)))["optimizer.lr"] == 0.3
    text = "extends: search.yaml\nspace: {optimizer: {lr: [0.4]}, train.seed: [5, 6]}\n"
    Path("wider.yaml").write_text(text, encoding="utf-8")
    space = load_source(Path("wider.yaml"), dotted=("space",)).data["space"]
    assert space == {"optimizer": {"lr": [0.4], "eps": [1e-6]}, "train": {"seed": [5, 6]}}


def test_the_order_is_one_in_which_conditions_are_known_first(compiled: Compile) -> None:
    for space in (CONDITIONAL, "  train.batch_size: [1]\n" + CONDITIONAL):
        known: set[str] = set()
        for dimension in compiled(space).space.dimensions:
            assert {path for path, _ in dimension.when} <= known
            known |= set(dimension.paths)


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        # names and types are the job's own
        ("  optimizer.lrr: [0.1]", "5: optimizer.lrr: unknown key; did you mean lr?"),
        ("  optimiser.lr: [0.1]", "5: optimiser: unknown key; did you mean optimizer?"),
        ("  optimizer.lr: [0.1, fast]", "5: optimizer.lr: must be a number > 0; got 'fast'"),
        ("  optimizer.lr: {low: 0, high: 1}", "5: optimizer.lr: must be a number > 0; got 0"),
        ("  train.batch_size: {low: 1.5, high: 4}", "5: train.batch_size: must be an integer >= 1; got 1.5"),
        ("  train.seed: many", "5: train.seed: must be an integer >= 0 and < 4.29497e+09; got 'many'"),
        ("  head.kind: [cnn, lstm]", "5: head.kind: unknown kind; must be one of cnn, crf, linear, regression, span; "),
        ("  optimizer.lr.x: [1]", "5: optimizer.lr: must be a number > 0; got {x: 1}"),
        ("  optimizer.betas: [0.9]", "(a list is a choice of its items; [[a, b]] of one list); got 0.9"),
        ("  head:\n    kernel_sizes:\n    - [3]\n    - [3, x]", "8: head.kernel_sizes[1]: must be an integer; got 'x'"),
        ("  name: [a, b]", "5: name: name is nothing to search: every trial gets its own"),
        # ranges
        ("  optimizer.lr: {low: 1.0, high: 0.1}", "5: optimizer.lr: low must be below high (0.1); got 1.0"),
        ("  optimizer.lr: {low: 0.1, high: 0.1}", "5: optimizer.lr: low must be below high (0.1); got 0.1"),
        ("  optimizer.weight_decay: {low: 0, high: 1, log: true}", "low must be above 0 where log is true; got 0"),
        ("  optimizer.lr: {low: 0.1, high: 1.1, log: true, step: 1}", "step must be left out where log is true; got 1"),
        ("  optimizer.lr: {low: 0.1, high: 1, step: 0}", "5: optimizer.lr: step must be above 0; got 0"),
        ("  train.seed: {low: 1, high: 10, step: 4}", "the last step below it is 9; got 10"),
        ("  optimizer.lr: {low: 0.1}", "5: optimizer.lr: a range needs low and high; high is missing"),
        ("  optimizer.lr: {low: 0.1, hihg: 1}", "optimizer.lr.hihg: unknown key of a range; its keys are low, high,"),
        ("  optimizer.lr: {low: 0.1, high: .inf}", "5: optimizer.lr: high must be a finite number; got .inf"),
        ("  optimizer.lr: {low: a, high: 1}", "5: optimizer.lr: low must be a finite number; got 'a'"),
        ("  optimizer.lr: {low: 0.1, high: 1, log: yes}", "5: optimizer.lr: log must be true or false; got 'yes'"),
        # choices
        ("  optimizer.lr: []", "5: optimizer.lr: an empty choice: must hold at least one value"),
        ("  optimizer.lr: [1, 2, 1.0]", "5: optimizer.lr[2]: must stand there only once; got 1.0"),
        ("  head.kernel_sizes: [[3], [3]]", "5: head.kernel_sizes[1]: must stand there only once; got [3]"),
        ("  train.seed: {values: 3}", "5: train.seed: values must be a list; got 3"),
        (
            "  train.seed: {values: [3], wen: {}}",
            "unknown key of a choice with branches; its keys are values, when; did",
        ),
        # the space as a whole
        ("  optimizer.lr: {}", "5: optimizer.lr: says nothing"),
        ("  optimizer..lr: [1]", "5: 'optimizer..lr': must be a key path, a.b"),
        (
            "  a: &x [1]\n  optimizer.lr: [1]\n  optimizer: {lr: [2]}",
            "7: optimizer.lr: stands twice; the first time at",
        ),
        (
            "  optimizer: [{lr: 1}]\n  optimizer.lr: [2]",
            "6: optimizer.lr: is set as a part of optimizer as well; the fi",
        ),
        # conditions
        (
            "  head:\n    kind: [cnn, linear]\n    when: {cn: {num_filters: [3]}}",
            "7: head.kind: when is for a value that is not among the choices (cnn, linear); got 'cn'; did you mean",
        ),
        ("  head:\n    kind: cnn\n    when: {cnn: {num_filters: [3]}}", "7: head.kind: when needs a choice to hang on"),
        ("  head:\n    when: {cnn: {num_filters: [3]}}", "6: head: when stands beside the choice that it hangs on"),
        ("  train.seed: {low: 1, high: 3, when: {'1': {}}}", "5: train.seed.when: unknown key of a range"),
        (
            "  head: {kind: [cnn], when: 3}",
            "5: head.kind: when must be a mapping from each value to its options; got 3",
        ),
        (
            "  head: {kind: [cnn], when: {cnn: 3}}",
            "5: head.kind: what hangs on cnn must be a mapping of options; got 3",
        ),
        (
            "  head:\n    kind: [cnn, linear]\n    when: {cnn: {kind: [linear]}}",
            "7: head.kind: hangs on itself: head.kind -> head.kind",
        ),
        (
            "  head:\n    kind: [cnn]\n    when: {cnn: {num_filters: {values: [1], when: {'1': {kind: [cnn]}}}}}",
            "7: head.kind: hangs on itself: head.kind -> head.num_filters -> head.kind",
        ),
        (
            "  head:\n    kind: [cnn, linear]\n    num_filters: [3]",
            "7: head.num_filters: unknown key for kind linear; an option of kind cnn",
        ),
        (
            "  head:\n    kind: [cnn, linear]\n    when: {linear: {num_filters: [3]}}",
            "7: head.num_filters: unknown key for kind linear; an option of kind cnn",
        ),
        # rules that types cannot express: what is wrong in every job with the value
        ("  encoder.trainable_layers: [all, -1]", "5: encoder.trainable_layers: must be all or at least 0; got -1"),
        ("  head.kernel_sizes: [[3], [0]]", "5: head.kernel_sizes[0]: must be an integer >= 1; got 0"),
        ("  head.kind: [cnn, crf]", "5: head.kind: must be one of linear, cnn for the task classification; got 'crf'"),
        ("  model.num_heads: [4, 3]", "5: model.num_heads: must divide d_model (64); got 3"),
    ],
)
def test_a_wrong_space_is_refused_with_its_line(refused: Refused, space: str, problem: str) -> None:
    found = refused(space)
    assert any(problem in line for line in found), found


@pytest.mark.parametrize(
    ("constraint", "problem"),
    [
        (
            "model.dmodel > 3",
            "8: constraints[0]: model.dmodel is no option of the job; got 'model.dmodel > 3'; did you",
        ),
        ("head.kind == cnn", "8: constraints[0]: cnn is no option of the job; text stands in quotes; got"),
        ("model.depth +", "8: constraints[0]: column 1"),
        ("model.depth == 7", "8: constraints[0]: nothing satisfies it: none of the 2 combinations of model.depth; got"),
        (
            "optimizer.lr > 1",
            "draws satisfies it; lists or steps, few enough to be gone through one by one, would find",
        ),
        ("optimizer.lr == 0.05", "8: constraints[0]: none of 5,220 draws satisfies it"),
        ("model.depth * optimizer.lr > 1", "8: constraints[0]: none of 5,240 draws satisfies it"),
        ("model.depth > 3", "8: constraints[0]: nothing satisfies it: false for every combination of what it is"),
        ("train.precision < 3", "8: constraints[0]: column 19: only numbers have an order; got 'auto' and 3"),
        ("data.fold.index == 1 and model.depth > 1", "8: constraints[0]: no job of this space has data.fold.index"),
    ],
)
def test_a_constraint_that_cannot_be_met_is_refused(refused: Refused, constraint: str, problem: str) -> None:
    found = refused("  model.depth: [2, 3]\n  optimizer.lr: {low: 0.001, high: 0.1}", constraint)
    assert len(found) == 1
    assert problem in found[0], found


def test_constraints_that_exclude_each_other(refused: Refused) -> None:
    space = "  model.depth: [2, 3]\n  optimizer.lr: {low: 0.001, high: 0.1}"
    (line,) = refused(space, "model.depth == 2", "model.depth == 3")
    assert "nothing satisfies it together with 'model.depth == 2': none of the 2 combinations" in line
    (line,) = refused(space, "optimizer.lr > 0.01", "optimizer.lr < 0.01")
    assert "constraints[1]: nothing satisfies it together with 'optimizer.lr > 0.01'" in line


def test_everything_is_said_at_once(refused: Refused) -> None:
    space = "  optimizer.lrr: [1]\n  optimizer.lr: {low: 2, high: 1}\n  train.seed: []\n  train.patience: [0]"
    found = refused(space, "a.b > 1", "optimizer.eps < 0", overrides=("metrik=x", "trian.log_every_steps=1"))
    assert [line.rpartition(": ")[0].partition(":")[0] for line in found[:6]] == ["5", "6", "7", "8", "10", "11"]
    assert [line.split(": ")[2] for line in found[6:]] == ["metrik", "trian"]
    assert len(found) == 8


def test_the_base_spec_is_checked_as_well(refused: Refused) -> None:
    text = Path("finetune.yaml").read_text(encoding="utf-8")
    Path("finetune.yaml").write_text(f"{text}optimizer: {{lr: -1}}\ntrain: {{batchsize: 3}}\n", encoding="utf-8")
    assert refused("  model.depth: [2]") == [
        "finetune.yaml:8: optimizer.lr: must be a number > 0; got -1",
        "finetune.yaml:9: train.batchsize: unknown key; did you mean batch_size?",
    ]


def test_a_spec_of_another_kind_of_job_is_no_base(compiled: Compile) -> None:
    text = Path("pretrain.yaml").read_text(encoding="utf-8")
    Path("finetune.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        compiled("  model.depth: [2]")
    assert str(caught.value).splitlines()[1:] == [
        "  finetune.yaml:1: kind: a search of finetune jobs must extend a finetune spec; got 'pretrain'"
    ]


def test_a_search_needs_a_space(refused: Refused) -> None:
    assert refused("  {}") == ["4: space: says nothing to search"]
    assert refused("  [1]") == ["5: space: must be a mapping of key paths to what they may be; got [1]"]


def test_combinations_that_the_jobs_own_rules_forbid_are_no_mistake_of_the_space(compiled: Compile) -> None:
    search = compiled("  model: {d_model: [64, 96], num_heads: [4, 6]}")
    jobs = []
    for assignment in search.space.draws(40, seed=0):
        try:
            jobs.append(search.job(assignment))
        except SpecError as error:
            assert "num_heads: must divide d_model (64); got 6" in str(error)  # noqa: PT017  (which of the draws)
    assert 20 < len(jobs) < 40
