import pytest
import torch

from reforge.heads.scheme import is_iob2, may_follow, mended, scheme_of

NAMES = ("B-ORG", "I-ORG", "O", "I-PER", "B-PER")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (NAMES, True),
        (("O",), True),
        (("B-A", "I-A"), True),
        (("O", "B-A"), True),
        ((), False),
        (("O", "I-A"), False),  # nothing would begin an A
        (("O", "B-A", "I-A", "S-A"), False),
        (("PER", "ORG", "O"), False),
        (("O", "B-", "I-"), False),
    ],
)
def test_iob2_is_told_by_its_names(names: tuple[str, ...], expected: bool) -> None:
    assert is_iob2(names) == expected


def test_what_iob2_forbids_is_all_that_is_forbidden() -> None:
    forbidden = {(before, name) for before in NAMES for name in NAMES if not may_follow(before, name)}
    assert forbidden == {
        ("O", "I-ORG"), ("O", "I-PER"),
        ("B-ORG", "I-PER"), ("I-ORG", "I-PER"),
        ("B-PER", "I-ORG"), ("I-PER", "I-ORG"),
    }  # fmt: skip


def test_the_tensors_say_what_the_names_say() -> None:
    scheme = scheme_of(NAMES, len(NAMES))
    assert scheme.not_first_K.tolist() == [False, True, False, True, False]
    for row, before in enumerate(NAMES):
        assert scheme.not_after_KK[row].tolist() == [not may_follow(before, name) for name in NAMES]
    assert [NAMES[k] for k in scheme.begins_K] == ["B-ORG", "B-ORG", "O", "B-PER", "B-PER"]


@pytest.mark.parametrize("names", [(), ("noun", "verb", "I-think"), ("PER", "ORG", "O")])
def test_other_names_forbid_nothing(names: tuple[str, ...]) -> None:
    scheme = scheme_of(names, 3)
    assert not scheme.not_first_K.any()
    assert not scheme.not_after_KK.any()
    assert scheme.begins_K.tolist() == [0, 1, 2]


def test_an_entity_that_nothing_began_is_begun() -> None:
    texts = ["I-PER I-PER O I-ORG I-PER I-PER", "B-ORG I-ORG I-PER O B-PER I-PER"]
    wanted = ["B-PER I-PER O B-ORG B-PER I-PER", "B-ORG I-ORG B-PER O B-PER I-PER"]
    tags = torch.tensor([[NAMES.index(name) for name in text.split()] for text in texts])
    got = mended(scheme_of(NAMES, len(NAMES)), tags)
    assert [" ".join(NAMES[k] for k in row) for row in got] == wanted
