import contextlib
import time
from random import Random

import pytest

from reforge.search.expression import NoValue, Unsuitable, read_expression

VALUES = {"a": 6, "b.c": 4, "lr": 1e-3, "kind": "cnn", "sizes": [3, 4, 5], "pair": (1, 2), "none": None, "yes": True}


def lookup(path: str) -> object:
    if path not in VALUES:
        raise NoValue(path)
    return VALUES[path]


def random_number(random: Random, depth: int) -> str:
    if depth == 0 or random.random() < 0.2:
        return random.choice(["a", "b.c", "lr", str(random.randrange(9)), "2.5"])
    left, right = random_number(random, depth - 1), random_number(random, depth - 1)
    match random.randrange(4):
        case 0:
            return f"{random.choice(['min', 'max'])}({left}, {right})"
        case 1:
            return f"-abs({left})"
        case _:
            return f"({left} {random.choice(['+', '-', '*', '/', '//', '%'])} {right})"


def random_truth(random: Random, depth: int) -> str:
    if depth == 0:
        first, *rest = (random_number(random, 2) for _ in range(random.choice([2, 2, 3])))
        signs = ["<", "<=", ">", ">=", "==", "!="]
        return first + "".join(f" {random.choice(signs)} {each}" for each in rest)
    left, right = random_truth(random, depth - 1), random_truth(random, depth - 1)
    return random.choice([f"({left} and {right})", f"({left} or {right})", f"not ({left})"])


class Dotted:
    c = VALUES["b.c"]


def test_an_expression_means_what_it_means_in_python() -> None:
    random = Random(0)
    names = {"a": VALUES["a"], "b": Dotted, "lr": VALUES["lr"], "min": min, "max": max, "abs": abs}
    seen = set()
    for _ in range(500):
        text = f"{random_truth(random, 2)} and a == a"
        try:
            expected = eval(text, {"__builtins__": {}}, names)  # our own text
        except ZeroDivisionError:
            expected = False
        assert read_expression(text).holds(lookup) is expected, text
        seen.add(expected)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a % b.c == 2", True),
        ("1 < b.c < a <= 6", True),
        ("1 < a < b.c", False),
        ("kind == 'cnn' and a in [5, 6]", True),
        ("kind not in ('cnn', 'crf') or a == 1", False),
        ("max(sizes) <= 5 and min(sizes) == 3", True),
        ("sizes == [3, 4, 5] and pair == [1, 2]", True),
        ("none == null and none == None and yes == true", True),
        ("yes and not a == 7", True),
        ("a % (b.c - 4) == 0", False),  # a division by 0
        ("2.0 ** (a * 200) > 0", False),  # beyond what is worked out
        ("kind == 'linear' or a > 3", True),
        ("kind == 'cnn' or missing > 3", True),  # decided before the missing path is read
        ("a == 6 and\n  b.c == 4", True),
        ("kind == '문장' or a == 6", True),
    ],
)
def test_what_the_language_has(text: str, expected: bool) -> None:
    assert read_expression(text).holds(lookup) is expected


def test_its_paths_are_known_without_working_it_out() -> None:
    expression = read_expression(
        "model.d_model % model.num_heads == 0 or kind == 'cnn' and true and max(model.d_model, a) > 1"
    )
    assert expression.paths == ("model.d_model", "model.num_heads", "kind", "a")
    assert expression.relates
    assert not read_expression("a < 3").relates
    with pytest.raises(NoValue, match=r"model\.d_model"):
        expression.holds(lookup)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "column 1: empty"),
        ("a ==", "not an expression"),
        ("a == 1)", "not an expression"),
        ("a + 1", "column 1: is neither true nor false; a comparison is missing"),
        ("3", "column 1: is neither true nor false"),
        ("3 < 4", "column 1: names no parameter"),
        ("a == 1 and __import__('os').system('true')", "column 12: the functions are min, max, abs"),
        ("eval('1') == a", "column 1: the functions are min, max, abs"),
        ("max(a, key=b) == 1", "column 1: the functions are min, max, abs"),
        ("a.__class__() == 1", "column 1: the functions are"),
        ("(1).real == a", "column 1: not allowed"),
        ("[a for a in b] == 1", "column 1: not allowed"),
        ("(lambda: a) == 1", "column 2: not allowed"),
        ("a[0] == 1", "column 1: not allowed"),
        ("(a := 3) == 3", "column 2: not allowed"),
        ("a == 1 if b else c", "column 1: not allowed"),
        ("f'{a}' == 1", "column 1: not allowed"),
        ("{'a': a} == 1", "column 1: not allowed"),
        ("a == b'x'", "column 6: only numbers, text in quotes"),
        ("a == 1j", "column 6: only numbers, text in quotes"),
        ("a is 6", "column 1: `is` compares nothing here"),
        ("a << 2 == 3", "column 1: the arithmetic is"),
        ("~a == 3", "column 1: ~ has no meaning here"),
        ("a == 1; b == 2", "not an expression"),
        ("a = 1", "not an expression"),
        ("'가나' == 1j", "column 9: only numbers"),
        ("a == " + "1+" * 600 + "1", "column 1001: longer than 1000 characters"),
        ("a == " + "-" * 300 + "1", "nested more than 40 deep"),
        ("(" * 300 + "a" + ")" * 300 + " == 1", "not an expression"),
        ("a == \0", "not an expression"),
    ],
)
def test_anything_else_is_refused_with_its_column(text: str, why: str) -> None:
    with pytest.raises(Unsuitable) as caught:
        read_expression(text)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("kind < 3", "column 8: only numbers have an order; got 'cnn' and 3"),
        ("none < 3", "only numbers have an order; got None and 3"),
        ("kind * 2 == 'cnncnn'", "column 1: must be a number to calculate with; it is 'cnn'"),
        ("yes + 1 == 2", "column 1: must be a number to calculate with; it is True"),
        ("'%d' % a == '6'", "column 1: must be a number to calculate with"),
        ("not a", "column 5: must be true or false, such as a comparison; it is 6"),
        ("not a % b.c", "column 5: must be true or false, such as a comparison; it is 2"),
        ("kind in 'cnn'", "column 9: `in` needs a list; got 'cnn'"),
        ("abs(sizes) == 1", "column 1: abs takes a number"),
        ("max(kind, a) == 1", "column 1: max takes numbers"),
        ("(-a) ** 0.5 > 1", "is no real number"),
    ],
)
def test_values_of_a_wrong_type_are_no_silent_false(text: str, why: str) -> None:
    with pytest.raises(Unsuitable) as caught:
        read_expression(text).holds(lookup)
    assert why in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "9 ** 9 ** 9 ** 9 == a",
        "a ** 64 ** 64 == 1",
        "(10 ** 60) * " * 60 + "a == 1",
        "9" * 900 + " * a > 'x' or a == 1",
        "-" * 38 + "a == 1",
        " or ".join(["a == 1"] * 99),
    ],
)
def test_nothing_takes_long(text: str) -> None:
    start = time.perf_counter()
    with contextlib.suppress(Unsuitable):
        read_expression(text).holds(lookup)
    assert time.perf_counter() - start < 0.5
