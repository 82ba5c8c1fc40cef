import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from reforge.search.constraints import Constraint
from reforge.search.dimension import Choice, Dimension, Range, freeze
from reforge.search.joint import join
from reforge.search.space import Space, cells
from reforge.spec import SpecError

Compile = Callable[..., Any]


def flow(value: object) -> str:
    return str(value).replace("'", "").replace("None", "null")


# What a fine-tuning takes at each path, in the words of a space; any of it goes with any other.
POOL: dict[str, list[Any]] = {
    "optimizer.lr": ["{low: 1.0e-5, high: 1.0e-2, log: true}", [1e-3, 2e-3]],
    "optimizer.weight_decay": [[0, 0.1], "{low: 0.0, high: 0.4, step: 0.1}"],
    "optimizer.betas": [[[0.9, 0.98], [0.8, 0.999]]],
    "optimizer.head_lr": [[None, 1e-3]],
    "train.batch_size": ["{low: 4, high: 16, step: 4}", [8, 16]],
    "train.patience": [[None, 2], "{low: 1, high: 9, log: true}"],
    "train.keep": [["best", "last"]],
    "model.depth": ["{low: 1, high: 3}"],
    "data.block_tokens": [[32, 64]],
}
CNN: dict[str, list[Any]] = {"num_filters": [[8, 16]], "kernel_sizes": [[[3], [4, 5]]], "dropout": [[0.1, 0.2], 0.3]}
LINEAR: dict[str, list[Any]] = {"pool": [["cls", "mean"]], "dropout": [[0.1, 0.2], "{low: 0.0, high: 0.5}"]}


def random_options(pool: dict[str, list[Any]], random: Random, indent: str) -> str:
    chosen = random.sample(sorted(pool), random.randrange(1, len(pool)))
    return "".join(f"{indent}{path}: {flow(random.choice(pool[path]))}\n" for path in chosen)


def random_space(random: Random) -> str:
    text = random_options(POOL, random, "  ")
    if random.random() < 0.7:
        text += "  head:\n    kind: [cnn, linear]\n    when:\n"
        text += "      cnn:\n" + random_options(CNN, random, " " * 8)
        text += "      linear:\n" + random_options(LINEAR, random, " " * 8)
    return text


@pytest.mark.parametrize("seed", range(12))
def test_every_draw_from_a_random_space_is_a_right_job(compiled: Compile, seed: int) -> None:
    random = Random(seed)
    search = compiled(random_space(random))
    for _ in range(5):
        values = search.space.draw(random)
        assert all(each.domain.holds(values[each.name]) for each in search.space.active(values))
        assert values.keys() == {each.name for each in search.space.active(values)}
        assignment = search.space.assignment(values)
        dump = search.job(assignment).model_dump(mode="json")
        for path, value in assignment.items():
            assert search.space.lookup({}, dump)(path) == value


def test_every_draw_from_a_pre_training_space_is_a_right_job(compiled: Compile) -> None:
    space = """\
  model:
    d_model: {low: 32, high: 96, step: 16}
    num_heads: [2, 3, 4]
  objective:
    kind: [mlm, causal]
    when: {mlm: {mask_prob: {low: 0.1, high: 0.4}}}
"""
    search = compiled(space, "model.d_model % (2 * model.num_heads) == 0", base="pretrain")
    kinds = [search.job(assignment).objective.kind for assignment in search.space.draws(20, seed=3)]
    assert set(kinds) == {"mlm", "causal"}
    with pytest.raises(SpecError, match=r"model\.num_heads: must divide d_model"):
        search.job({"model.d_model": 32, "model.num_heads": 3})


def test_one_seed_gives_one_sequence(compiled: Compile) -> None:
    space = compiled(random_space(Random(1))).space
    assert list(space.draws(20, seed=5)) == list(space.draws(20, seed=5))
    assert list(space.draws(20, seed=5)) != list(space.draws(20, seed=6))


def random_domains(random: Random) -> list[Dimension]:
    names = ["a", "b.c", "d"]
    return [
        Dimension(
            name,
            Range(1, random.randrange(2, 6), is_int=True) if random.random() < 0.5 else Choice((2, 3, 4, 6)),
            (),
            (name,),
        )
        for name in names
    ]


def ordered(found: list[dict[str, Any]]) -> list[list[tuple[str, Any]]]:
    return sorted(sorted(settings.items()) for settings in found)


CONSTRAINTS = ("a % b.c == 0", "a == d or b.c == 2", "a * d % 4 == b.c % 4", "a + b.c == d", "a < d", "b.c * d <= 8")


@pytest.mark.parametrize("seed", range(25))
def test_a_joint_choice_is_all_combinations_that_hold(seed: int) -> None:
    random = Random(seed)
    dimensions = random_domains(random)
    constraints = [Constraint.of(text) for text in random.sample(CONSTRAINTS, 2)]
    whole = Space(tuple(dimensions))
    expected = [
        settings for settings in cells(dimensions) if all(each.holds(whole.lookup(settings)) for each in constraints)
    ]
    joined = join(dimensions, constraints, set(), whole.lookup)
    if not expected and joined.problems:
        return
    left = [
        settings
        for settings in cells(joined.dimensions)
        if all(each.holds(whole.lookup(settings)) for each in joined.constraints)
    ]
    assert ordered(left) == ordered(expected)
    related = [each for each in constraints if each.expression.relates]
    assert not set(related) & set(joined.constraints)


def test_a_joint_dimension_is_drawn_and_taken_apart(compiled: Compile) -> None:
    search = compiled(
        "  model: {d_model: [32, 48, 64], num_heads: [2, 3, 4], depth: [1, 2]}\n  train.seed: 3",
        "model.d_model % model.num_heads == 0",
        "model.d_model // model.num_heads % 2 == 0",
        "model.d_model * model.depth < 120",
    )
    joint, depth = search.space.dimensions
    assert joint.name == "model.d_model*model.num_heads"
    assert joint.paths == ("model.d_model", "model.num_heads")
    assert joint.domain.labels == ("32*2", "32*4", "48*2", "48*3", "48*4", "64*2", "64*4")
    assert depth.name == "model.depth"
    assert [each.text for each in search.space.constraints] == ["model.d_model * model.depth < 120"]
    assert search.space.size() == 14
    assert sum(not search.space.violated(cell) for cell in cells(search.space.dimensions)) == 12
    assignment = search.space.assignment({joint.name: (48, 3), depth.name: 2})
    assert assignment == {"model.d_model": 48, "model.num_heads": 3, "model.depth": 2, "train.seed": 3}
    assert search.space.violated(assignment) == []
    assert search.space.violated({**assignment, "model.d_model": 64}) == ["model.d_model * model.depth < 120"]


def test_what_is_not_searched_is_read_from_the_base_and_its_defaults(compiled: Compile) -> None:
    search = compiled("  model.num_heads: [2, 3, 4, 8]", "model.d_model % model.num_heads == 0")
    assert search.space.dimensions[0].domain.values == (2, 4, 8)  # the base's d_model is 64
    search = compiled("  train.batch_size: {low: 1, high: 64}", "train.batch_size <= 2 * data.block_tokens - 96")
    assert search.space.violated({"train.batch_size": 33})  # 64 in the base
    assert not search.space.violated({"train.batch_size": 33}, {"data": {"block_tokens": 128}})
    search = compiled("  optimizer.lr: {low: 0.01, high: 0.1}", "optimizer.lr <= optimizer.weight_decay * 5")
    assert search.space.violated({"optimizer.lr": 0.06})  # 0.01 is the option's default


def test_what_a_name_stands_for_is_known_to_constraints(compiled: Compile) -> None:
    text = Path("pretrain.yaml").read_text(encoding="utf-8")
    Path("pretrain.yaml").write_text(
        text.replace("d_model: 64, depth: 2, num_heads: 4", "size: tiny"), encoding="utf-8"
    )
    search = compiled("  model.size: [tiny, mini, small]", "model.d_model > 128", base="pretrain")  # tiny's is 128
    assert search.space.violated({"model.size": "tiny"}) == ["model.d_model > 128"]
    assert search.space.violated({"model.size": "mini"}) == []
    assert pickle.loads(pickle.dumps(search)).space.violated({"model.size": "tiny"}) == ["model.d_model > 128"]


def test_what_keeps_a_draw_from_being_run(compiled: Compile) -> None:
    search = compiled("  model: {d_model: [64, 96], num_heads: [4, 6]}", "model.d_model - 10 * model.num_heads > 10")
    assert search.violated({"model.d_model": 64, "model.num_heads": 6}) == ["model.d_model - 10 * model.num_heads > 10"]
    assert search.violated({"model.d_model": 96, "model.num_heads": 6}) == []
    search = compiled("  model: {d_model: [64, 96], num_heads: [4, 6]}")
    (why,) = search.violated({"model.d_model": 64, "model.num_heads": 6})
    assert "model.num_heads: must divide d_model (64); got 6" in why


def test_a_constraint_on_a_branch_concerns_that_branch_only(compiled: Compile) -> None:
    space = """\
  head:
    kind: [cnn, linear]
    when:
      cnn: {num_filters: [100, 200], dropout: [0.1, 0.2]}
"""
    search = compiled(space, "head.num_filters > 100", "head.kind == 'cnn' or head.dropout < 0.2")
    assert search.space.violated({"head.kind": "linear"}) == []  # it has no filters; its dropout is the kind's default
    assert search.space.violated({"head.kind": "cnn", "head.num_filters": 100}) == ["head.num_filters > 100"]
    feasible = [cell for cell in cells(search.space.dimensions) if not search.space.violated(cell)]
    assert [(cell["head.kind"], cell.get("head.num_filters")) for cell in feasible] == [
        ("cnn", 200),
        ("cnn", 200),
        ("linear", None),
    ]


@pytest.mark.parametrize("seed", range(8))
def test_the_size_is_the_number_of_different_draws(compiled: Compile, seed: int) -> None:
    random = Random(seed)
    finite = {path: [each for each in forms if "log" not in str(each)] for path, forms in POOL.items()}
    text = random_options({path: forms for path, forms in finite.items() if forms}, random, "  ")
    text += "  head:\n    kind: [cnn, linear]\n    when:\n      cnn:\n" + random_options(CNN, random, " " * 8)
    space = compiled(text).space
    listed = list(itertools.islice(cells(space.dimensions), 5_000))
    assert space.size() == len(listed) == len({freeze(settings) for settings in listed})


def test_a_continuous_range_has_no_number_of_cells(compiled: Compile) -> None:
    assert compiled("  optimizer.lr: {low: 0.1, high: 0.2}\n  train.seed: [1, 2]").space.size() is None


def test_a_partial_point_decides_the_dimensions_it_names(compiled: Compile) -> None:
    space = compiled(
        "  model: {d_model: [32, 48], num_heads: [2, 3]}\n"
        "  head: {kind: [cnn, linear], when: {cnn: {num_filters: [8]}}}",
        "model.d_model % model.num_heads == 0",
    ).space
    joint = "model.d_model*model.num_heads"
    assert space.values_of({"model.num_heads": 3}) == {joint: (48, 3)}
    assert space.values_of({"head.kind": "cnn", "head.num_filters": 8}) == {"head.kind": "cnn", "head.num_filters": 8}
    assert space.values_of({"head.kind": "linear", "head.num_filters": 8}) == {"head.kind": "linear"}
    assert space.values_of({"model.d_model": 40, "optimizer.lr": 1}) == {}


def test_values_may_be_asked_for_in_a_draw() -> None:
    kind = Dimension("k", Choice(("a", "b")), (), ("k",))
    below = Dimension("n", Range(1, 9, is_int=True), (("k", frozenset({"b"})),), ("n",))
    space = Space((kind, below))
    assert space.draw(Random(0), {"n": 4}) == {"k": "b", "n": 4}


@pytest.mark.parametrize(
    ("domain", "size", "values"),
    [
        (Range(1, 4, is_int=True), 4, [1, 2, 3, 4]),
        (Range(2, 8, step=3, is_int=True), 3, [2, 5, 8]),
        (Range(0.1, 0.6, step=0.1), 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]),
        (Range(1, 1000, log=True, is_int=True), 1000, list(range(1, 1001))),
    ],
)
def test_a_range_has_its_values(domain: Range, size: int, values: list[float]) -> None:
    assert domain.size == size
    assert list(domain.values) == values
    random = Random(0)
    drawn = {domain.draw(random) for _ in range(300)}
    assert all(domain.holds(value) for value in drawn)
    assert drawn <= set(values)
    assert drawn == set(values) or size > 100
    assert not domain.holds(values[-1] + 1)
    assert not domain.holds("1")


def test_labels_tell_values_apart() -> None:
    assert Choice((1, "one", None, True, [1, "a"])).labels == ("1", "one", "null", "true", "[1, 'a']")
    assert Choice((8, "8")).labels == ("8", '"8"')
    assert Choice(([3, 4], [5])).value("[5]") == [5]
    assert Choice((8, "8")).label("8") == '"8"'
