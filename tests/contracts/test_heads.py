"""What every head must do at each of its levels; a new line in HEADS is tested here without a new test."""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load, save
from torch import Tensor

from reforge.heads import HEADS, AnyHead, Head, LSTMOptions, Outputs, TokenHead
from reforge.heads.head import ANSWERS
from reforge.spec import Part, SpecError, load_source, validate

D, TAGS = 8, ("O", "B-X", "I-X", "B-Y", "I-Y")
# Options under which a head has other layers or other paths than by default.
VARIANTS = {
    "linear": [
        ("text", {"pool": "mean"}),
        ("token", {"lstm": LSTMOptions(hidden_size=3)}),
        ("token", {"lstm": LSTMOptions(hidden_size=3, num_layers=2), "dropout": 0.0}),
    ],
    "cnn": [("text", {"kernel_sizes": (2, 7), "num_filters": 5})],
    "crf": [("token", {"lstm": LSTMOptions(hidden_size=3)})],
    "regression": [("text", {"pool": "mean"})],
}
CASES = [
    (kind, level, options)
    for kind, part in HEADS.items()
    for level, options in [*((level, {}) for level in sorted(part.levels)), *VARIANTS.get(kind, [])]
]
LENGTHS = (6, 3, 1)


class Job(Part):
    """A job spec with a head."""

    head: AnyHead


def outputs(kind: str, level: str) -> Outputs:
    if level == "token":
        return Outputs(len(TAGS), "token", TAGS)
    if level == "span":
        return Outputs(2, "span")
    return Outputs(1, "text") if kind == "regression" else Outputs(3, "text", ("bad", "fair", "good"))


def build(kind: str, level: str, options: dict[str, object]) -> Head:
    torch.manual_seed(0)
    return HEADS[kind](**options).build(D, outputs(kind, level))


@pytest.fixture(params=CASES, ids=lambda case: "-".join(map(str, (*case[:2], *case[2]))))
def case(request: pytest.FixtureRequest) -> tuple[str, str, dict[str, object]]:
    return request.param


@pytest.fixture
def head(case: tuple[str, str, dict[str, object]]) -> Head:
    return build(*case).eval().double()


def batch(lengths: tuple[int, ...] = LENGTHS, width: int = 6, garbage: int = 0) -> tuple[Tensor, Tensor]:
    """States in which only what is beyond the lengths depends on `garbage`, and what is real."""
    random, noise = torch.Generator().manual_seed(1), torch.Generator().manual_seed(100 + garbage)
    states = 50 * torch.randn(len(lengths), width, D, generator=noise, dtype=torch.float64)
    for row, length in enumerate(lengths):
        states[row, :length] = torch.randn(LENGTHS[0], D, generator=random, dtype=torch.float64)[:length]
    return states.requires_grad_(), torch.arange(width) < torch.tensor(lengths)[:, None]


def loss(head: Head, scores: Tensor, real: Tensor) -> Tensor:
    """A sum over the real units, whose tags are always the same ones."""
    tags = torch.arange(real.shape[1]).expand(real.shape) % len(TAGS)
    if isinstance(head, TokenHead):
        return head.loss_sum(scores, tags, real)
    if scores.ndim == 3:
        scores = scores.masked_fill(~real[..., None], 0.0)
    return (scores * (tags[..., None] + 1 if scores.ndim == 3 else real.any(1, keepdim=True))).square().sum()


def real_scores(scores: Tensor, real: Tensor) -> Tensor:
    return scores[real] if scores.ndim == 3 else scores


def gradients(head: Head, states: Tensor, real: Tensor) -> dict[str, Tensor]:
    head.zero_grad()
    states.grad = None
    loss(head, head(states, real), real).backward()
    assert states.grad is not None
    return {name: p.grad for name, p in head.named_parameters()} | {"states": states.grad}


def test_the_scores_have_the_shape_of_their_level(head: Head, case: tuple[str, str, dict[str, object]]) -> None:
    kind, level, _ = case
    size = outputs(kind, level).size
    for lengths, width in ((LENGTHS, 6), ((4,), 4), ((1,), 1), ((1, 1), 1)):
        scores = head(*batch(lengths, width))
        assert scores.shape == ((len(lengths), size) if level == "text" else (len(lengths), width, size))
        assert scores.isfinite().all()
    assert isinstance(head, TokenHead) == (level == "token")


def test_padding_changes_neither_scores_nor_gradients(head: Head) -> None:
    states, real = batch()
    expected, expected_gradients = head(states, real), gradients(head, states, real)
    for width, garbage in ((6, 1), (7, 0), (14, 1)):
        wider, wider_real = batch(width=width, garbage=garbage)
        scores = head(wider, wider_real)
        torch.testing.assert_close(real_scores(scores, wider_real), real_scores(expected, real), rtol=1e-9, atol=1e-12)
        got = gradients(head, wider, wider_real)
        assert not got["states"][~wider_real].any()
        got["states"] = got["states"][:, :6]
        for name, gradient in expected_gradients.items():
            torch.testing.assert_close(got[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def test_a_row_is_scored_as_if_alone(head: Head) -> None:
    states, real = batch()
    scores = head(states, real)
    for row in range(len(LENGTHS)):
        alone = head(states[row : row + 1], real[row : row + 1])
        torch.testing.assert_close(alone, scores[row : row + 1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("lengths", "width"), [(LENGTHS, 6), ((2,), 2), ((1,), 1), ((1,), 5), ((0, 0), 3)])
def test_every_parameter_gets_a_finite_gradient(head: Head, lengths: tuple[int, ...], width: int) -> None:
    # DDP waits for every parameter, also on a worker whose batch is empty.
    for name, gradient in gradients(head, *batch(lengths, width)).items():
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        if not any(lengths):
            assert not gradient.any(), name


def test_all_that_is_learnt_matters(head: Head) -> None:
    got = gradients(head, *batch((6, 5, 4), 6))
    assert all(gradient.any() for gradient in got.values())


def test_an_empty_row_adds_nothing(head: Head) -> None:
    states, real = batch((6, 3, 0, 1), 6)
    assert head(states, real).isfinite().all()
    got = gradients(head, states, real)
    assert not got["states"][2].any()
    rest = [0, 1, 3]
    kept = states[rest].detach().requires_grad_()
    expected = gradients(head, kept, real[rest])
    got["states"] = got["states"][rest]
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scores_are_float32_under_autocast_and_not_rounded(head: Head, dtype: torch.dtype) -> None:
    head = head.float()
    states, real = batch((6, 3, 0, 1), 6)
    states = states.detach().to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = head(states, real)
        total = loss(head, scores, real)
    assert scores.dtype == total.dtype == torch.float32
    some = real_scores(scores, real)
    assert (some != some.bfloat16().float()).any()
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    torch.testing.assert_close(some, real_scores(head(states.float(), real), real), rtol=0.1, atol=0.02)


def test_weights_are_a_function_of_the_random_state(case: tuple[str, str, dict[str, object]]) -> None:
    first, again = build(*case).state_dict(), build(*case).state_dict()
    assert all(torch.equal(values, again[name]) for name, values in first.items())


def test_dropout_is_for_training_only(case: tuple[str, str, dict[str, object]]) -> None:
    kind, level, options = case
    head = build(kind, level, {**options, "dropout": 0.5}).double()
    states, real = batch()
    first, second = head(states, real), head(states, real)
    assert not torch.equal(first, second)
    head.eval()
    assert torch.equal(head(states, real), head(states, real))


def test_saved_weights_give_the_same_scores(head: Head, case: tuple[str, str, dict[str, object]]) -> None:
    with torch.no_grad():
        for p in head.parameters():
            p.add_(torch.randn_like(p))
    state = head.state_dict()
    assert set(state) == {name for name, _ in head.named_parameters()}
    other = build(*case).eval().double()
    other.load_state_dict(load(save(state)))  # safetensors refuses what is shared or not contiguous
    assert torch.equal(other(*batch()), head(*batch()))


def test_another_level_is_a_problem(case: tuple[str, str, dict[str, object]]) -> None:
    kind, level, options = case
    part = HEADS[kind](**options)
    assert list(part.problems()) == list(part.fit(level)) == []
    for other in {"text", "token", "span"} - part.levels:
        problem, *_ = part.fit(other)
        assert str(problem).startswith(f"head.kind: must give {ANSWERS[other]}, not ")
        assert str(problem).endswith(f"; got '{kind}'")


def test_options_from_yaml_are_those_from_python(case: tuple[str, str, dict[str, object]], tmp_path: Path) -> None:
    part = HEADS[case[0]](**case[2])
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump({"head": part.model_dump(mode="json")}))
    assert validate(Job, load_source(path, [])).head == part


def test_all_mistakes_of_a_head_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("head:\n  kind: crf\n  dropout: 1\n  lstm:\n    hidden_size: 0\n    num_layer: 2\n")
    with pytest.raises(SpecError) as caught:
        validate(Job, load_source(path, []))
    said = str(caught.value)
    assert "3: head.dropout: must be a number >= 0 and < 1; got 1" in said
    assert "5: head.lstm.hidden_size: must be an integer >= 1; got 0" in said
    assert "6: head.lstm.num_layer: unknown key; did you mean num_layers?" in said
