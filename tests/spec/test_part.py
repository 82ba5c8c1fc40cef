from typing import TYPE_CHECKING, Literal

import pytest
from pydantic import ValidationError

from reforge.spec import Part, one_of


class Cosine(Part):
    kind: Literal["cosine"] = "cosine"
    warmup_steps: int = 0


class Constant(Part):
    kind: Literal["constant"] = "constant"


if TYPE_CHECKING:
    OneSchedule = AnySchedule = Part
else:
    OneSchedule, AnySchedule = one_of({"cosine": Cosine}), one_of({"cosine": Cosine, "constant": Constant})


class Optimizer(Part):
    lr: float = 0.1
    first: OneSchedule = Cosine()
    second: AnySchedule | None = None


def test_a_part_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Cosine().warmup_steps = 3  # type: ignore[misc]


@pytest.mark.parametrize("options", [{"warmup": 1}, {"warmup_steps": True}, {"warmup_steps": "1"}])
def test_a_part_takes_no_unknown_keys_and_no_other_types(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Cosine.model_validate(options)


def test_a_part_has_no_infinite_numbers() -> None:
    with pytest.raises(ValidationError, match="finite"):
        Optimizer(lr=float("inf"))


def test_the_kind_chooses_among_the_parts_of_a_registry() -> None:
    optimizer = Optimizer.model_validate({"second": {"kind": "cosine", "warmup_steps": 5}})
    assert optimizer == Optimizer(second=Cosine(warmup_steps=5))
    assert Optimizer(second=Constant()).second == Constant()


def test_a_registry_of_one_chooses_too() -> None:
    assert Optimizer.model_validate({"first": {"kind": "cosine"}}).first == Cosine()
    with pytest.raises(ValidationError, match="constant"):
        Optimizer.model_validate({"first": {"kind": "constant"}})


def test_a_part_must_stand_in_the_registry_under_its_own_name() -> None:
    with pytest.raises(AssertionError, match=r"Cosine\.kind is 'cosine', the registry says 'linear'"):
        one_of({"linear": Cosine})


def test_parts_have_no_problems_unless_they_say_so() -> None:
    assert list(Cosine().problems()) == []
