"""The model of answers' places: where it may look, what its loss is, and which windows an epoch trains on."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from reforge.batches import Batch
from reforge.heads import HEADS, Outputs
from reforge.models import BACKBONES, Frame
from reforge.tasks import Row, RowSet
from reforge.tasks.answer_windows import ANSWER, CONTEXT, DRAWN
from reforge.tasks.span_model import SpanModel
from reforge.tasks.text_rows import CLS_ID, SEP_ID, framed, second_text

VOCAB, BLOCK = 40, 32
SIZES = {"d_model": 16, "depth": 1, "num_heads": 2}


def model(kind: str = "transformer") -> SpanModel:
    torch.manual_seed(0)
    backbone = BACKBONES[kind](**SIZES).build(Frame(VOCAB, BLOCK, num_segments=2))
    return SpanModel(backbone, HEADS["span"]().build(SIZES["d_model"], Outputs(2, "span"))).eval()


def row(number: int, num_context: int, answer: tuple[int, int], drawn: float = 1.0) -> Row:
    """A question of three tokens; `answer` counts tokens of the row."""
    rng = np.random.default_rng(number)
    ids = framed(rng.integers(5, VOCAB, 3), rng.integers(5, VOCAB, num_context))
    extras = {
        CONTEXT: np.array([5, 5 + num_context]),
        ANSWER: np.array(answer),
        DRAWN: np.array(drawn, np.float32),
    }
    return Row(number, ids, second_text(ids), extras)


def read(rows: list[Row], epoch: int = 0) -> Batch:
    given = RowSet(rows)
    batch = given.read(given.rows_at(seed=0, step=0, global_batch=len(rows)), seed=0)
    return batch._replace(epochs=np.full(len(rows), epoch))


def blank(batch: Batch) -> Batch:
    """A row of zeros in the form of `batch`, as a process gets that has no row of a step."""
    none = {name: np.zeros_like(values[:1]) for name, values in batch.extras.items()}
    return Batch(np.zeros_like(batch.ids[:1]), batch.epochs[:1], batch.samples[:1], None, none)


@pytest.mark.parametrize("kind", BACKBONES)
def test_only_cls_and_the_context_may_hold_an_answer(kind: str) -> None:
    batch = read([row(0, 9, (6, 8)), row(1, 4, (0, 0)), row(2, 0, (0, 0))], epoch=-1)
    _, outputs = model(kind).assess(**model(kind).collate(batch, seed=1).tensors)
    scores_BT2 = outputs["scores_BT2"]
    assert scores_BT2.shape == (3, batch.ids.shape[1], 2)
    for ids, (start, stop), scores_T2 in zip(batch.ids, batch.extras[CONTEXT], scores_BT2, strict=True):
        open_places = np.flatnonzero((scores_T2 > -1e8).all(-1).numpy()).tolist()
        assert open_places == [0, *range(start, stop)]
        assert ids[0] == CLS_ID
        assert ids[start - 1] == ids[stop] == SEP_ID


def by_hand(scores_T2: Tensor, answer: tuple[int, int], start: int, stop: int) -> float:
    """-log of the softmax over [CLS] and the context, of start and of end, halved."""
    places = [0, *range(start, stop)]
    total = 0.0
    for side in range(2):
        weights = [math.exp(scores_T2[place, side].item()) for place in places]
        total -= math.log(weights[places.index(answer[side])] / sum(weights))
    return total / 2


@pytest.mark.parametrize("kind", BACKBONES)
def test_the_loss_is_the_mean_of_start_and_end_summed_over_rows(kind: str) -> None:
    batch = read([row(0, 9, (6, 8)), row(1, 4, (0, 0)), row(2, 12, (5, 16))])
    net = model(kind)
    inputs = net.collate(batch, seed=1)
    loss, outputs = net.assess(**inputs.tensors)
    expected = [
        by_hand(scores_T2, tuple(answer), *context)
        for scores_T2, answer, context in zip(
            outputs["scores_BT2"], batch.extras[ANSWER], batch.extras[CONTEXT], strict=True
        )
    ]
    assert inputs.num_targets == {"loss": 3}
    assert loss.item() == pytest.approx(sum(expected), rel=1e-5)
    assert net(**inputs.tensors).losses["loss"].item() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("kind", BACKBONES)
def test_a_blank_row_has_no_target_and_no_nan(kind: str) -> None:
    net = model(kind)
    batch = read([row(0, 9, (6, 8)), row(1, 4, (0, 0))])
    nothing = blank(batch)
    for epochs in (np.array([0]), np.array([-1])):
        inputs = net.collate(nothing._replace(epochs=epochs), seed=1)
        loss, outputs = net.assess(**inputs.tensors)
        loss.backward()
        assert inputs.num_targets == {"loss": 0}
        assert loss.item() == 0
        assert outputs["scores_BT2"].isfinite().all()
        for name, parameter in net.named_parameters():
            assert parameter.grad is None or not parameter.grad.any(), name
    extras = {name: np.concatenate([values, nothing.extras[name]]) for name, values in batch.extras.items()}
    ids, samples = np.concatenate([batch.ids, nothing.ids]), np.append(batch.samples, 9)
    both = net.collate(Batch(ids, np.full(3, -1), samples, None, extras), seed=1)
    alone = net.collate(batch._replace(epochs=np.full(2, -1)), seed=1)
    assert both.num_targets == alone.num_targets == {"loss": 2}
    torch.testing.assert_close(net.assess(**both.tensors)[0], net.assess(**alone.tensors)[0])


def test_rows_to_be_predicted_have_no_target() -> None:
    rows = [row(0, 9, (6, 8)), row(1, 4, (0, 0))]
    net = model()
    batch = read([one.__class__(one.example, one.ids, one.segments, {CONTEXT: one.extras[CONTEXT]}) for one in rows])
    inputs = net.collate(batch, seed=1)
    loss, outputs = net.assess(**inputs.tensors)
    assert (loss.item(), inputs.num_targets) == (0, {"loss": 0})
    assert len(outputs["scores_BT2"]) == 2


def test_an_epoch_trains_on_its_share_of_the_windows_without_the_answer() -> None:
    rows = [row(number, 8, (6, 7)) for number in range(40)]
    rows += [row(40 + number, 8, (0, 0), drawn=0.25) for number in range(400)]
    net, batch = model(), read(rows)
    taken = []
    for epoch in range(5):
        inputs = net.collate(batch._replace(epochs=np.full(440, epoch)), seed=3)
        again = net.collate(batch._replace(epochs=np.full(440, epoch)), seed=3)
        assert torch.equal(inputs.tensors["ids_BT"], again.tensors["ids_BT"])
        answers_B2 = inputs.tensors["answers_B2"]
        assert (answers_B2[:, 0] > 0).sum() == 40
        assert inputs.num_targets["loss"] == len(answers_B2)
        taken.append((answers_B2[:, 0] == 0).sum().item())
    assert abs(np.mean(taken) - 100) < 15
    assert len(set(taken)) > 1
    assert net.collate(batch._replace(epochs=np.full(440, -1)), seed=3).num_targets == {"loss": 440}


def test_what_is_drawn_does_not_depend_on_the_batch() -> None:
    rows = [row(number, 8, (0, 0), drawn=0.5) for number in range(64)]
    net, batch = model(), read(rows)
    whole = net.collate(batch, seed=3).tensors["ids_BT"]
    halves = []
    for part in (slice(0, 32), slice(32, 64)):
        extras = {name: values[part] for name, values in batch.extras.items()}
        half = Batch(batch.ids[part], batch.epochs[part], batch.samples[part], None, extras)
        halves.append(net.collate(half, seed=3).tensors["ids_BT"])
    assert torch.equal(torch.cat(halves), whole)


def test_a_batch_of_which_nothing_is_drawn_adds_nothing() -> None:
    net = model()
    inputs = net.collate(read([row(number, 8, (0, 0), drawn=0.0) for number in range(4)]), seed=3)
    loss, _ = net.assess(**inputs.tensors)
    loss.backward()
    assert inputs.num_targets == {"loss": 0}
    assert len(inputs.tensors["ids_BT"]) == 1
    assert loss.item() == 0
    assert all(parameter.grad is not None for parameter in net.head.parameters())
