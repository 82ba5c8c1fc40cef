import pickle

import pytest

from reforge.spec import MISSING, Problem, SpecError, UserError


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        (
            Problem(("model", "num_heds"), "unknown key", nearest="num_heads", place="jobs/specs/mlm.yaml:12"),
            "jobs/specs/mlm.yaml:12: model.num_heds: unknown key; did you mean num_heads?",
        ),
        (
            Problem(("model", "num_heads"), "must divide d_model (100)", 8, place="jobs/specs/mlm.yaml:9"),
            "jobs/specs/mlm.yaml:9: model.num_heads: must divide d_model (100); got 8",
        ),
        (Problem((), "not YAML", place="a.yaml:1"), "a.yaml:1: not YAML"),
        (Problem(("layers", 2, "depth"), "must be less", None), "layers[2].depth: must be less; got null"),
        (Problem(("a.b",), "unknown key", MISSING), "'a.b': unknown key"),
        (Problem(("a",), "no", {"b": [1, True, "x", float("-inf")]}), "a: no; got {b: [1, true, 'x', -.inf]}"),
        (Problem(("a",), "no", "x" * 200), "a: no; got '" + "x" * 76 + "..."),
    ],
)
def test_a_problem_is_one_line(problem: Problem, line: str) -> None:
    assert str(problem) == line


def test_an_error_lists_its_problems_in_reading_order() -> None:
    places = ["command line: a=1", "a.yaml:10", "a.yaml:9", "a.yaml"]
    error = SpecError([Problem((), "wrong", place=place) for place in places], "a.yaml")
    assert str(error).splitlines() == [
        "4 problems in a.yaml:",
        "  a.yaml: wrong",
        "  a.yaml:9: wrong",
        "  a.yaml:10: wrong",
        "  command line: a=1: wrong",
    ]
    assert isinstance(error, UserError)


def test_an_error_survives_pickle_as_it_travels_between_ray_processes() -> None:
    error = SpecError([Problem(("a",), "wrong")], "a.yaml")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == "1 problem in a.yaml:\n  a: wrong"
    assert copy.problems[0].got is MISSING
