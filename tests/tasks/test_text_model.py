"""Models of whole texts: what the loss is a mean of, what changes nothing, what gradients go through."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from reforge.batches import Batch
from reforge.corpora.labelled import TextExample
from reforge.models import BACKBONES
from reforge.tasks import RowSet, Task, TaskModel
from reforge.tasks.augmentation import Augmentation
from reforge.tasks.classification import ClassificationOptions
from reforge.tasks.pair import PairOptions
from reforge.tasks.similarity import SimilarityOptions

Tiny = Callable[..., TaskModel]
NAMES = ("bad", "good")


def batch(task: Task, examples: list[TextExample], labelled: bool = True, epoch: int = 0) -> Batch:
    """All rows, shortest first, each batch as wide as its longest row."""
    rows = RowSet(task.rows(examples, labelled))
    [(_, part)] = rows.parts(rows.all_indices, epoch, 10**9)
    return rows.read(part, 0)


def with_blank(given: Batch) -> Batch:
    """The batch with two rows of padding in it, the first and the last, and one column more."""

    def padded(values: np.ndarray) -> np.ndarray:
        edges = [(1, 1), *([(0, 1)] * (values.ndim - 1))]
        return np.pad(values, edges)

    return Batch(
        padded(given.ids),
        padded(given.epochs),
        padded(given.samples),
        None,
        {name: padded(values) for name, values in given.extras.items()},
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"class_weights": {"bad": 3.0, "good": 0.5}}, {"class_weights": {"bad": 3.0}, "label_smoothing": 0.2}],
    ids=["plain", "weights", "weights-smoothing"],
)
def test_the_loss_is_torchs_weighted_mean(
    options: dict[str, object], tokenizer: Tokenizer, reviews: list[TextExample], tiny: Tiny
) -> None:
    task = ClassificationOptions(**options).bind(NAMES, tokenizer, 32)  # type: ignore[arg-type]
    model, given = tiny(task), batch(task, reviews[:9])
    inputs = model.collate(given, 0)
    loss, outputs = model.assess(**inputs.tensors)
    weights = torch.tensor(task.options.weights(NAMES) or (1.0, 1.0))
    expected = F.cross_entropy(
        outputs["logits_BK"], torch.from_numpy(given.extras["label"]), weights,
        label_smoothing=task.options.label_smoothing,
    )  # fmt: skip
    torch.testing.assert_close(loss / inputs.num_targets["loss"], expected)


def tasks(tokenizer: Tokenizer) -> dict[str, Task]:
    return {
        "classification": ClassificationOptions(class_weights={"bad": 2.0}).bind(NAMES, tokenizer, 32),
        "pair": PairOptions(label_smoothing=0.1).bind(("contradiction", "entailment", "neutral"), tokenizer, 32),
        "similarity": SimilarityOptions().bind((), tokenizer, 32),
    }


@pytest.fixture(params=["classification", "pair", "similarity"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def task(kind: str, tokenizer: Tokenizer) -> Task:
    return tasks(tokenizer)[kind]


@pytest.fixture
def examples(kind: str, request: pytest.FixtureRequest) -> list[TextExample]:
    sets = {"classification": "reviews", "pair": "pairs", "similarity": "scored"}
    found: list[TextExample] = request.getfixturevalue(sets[kind])
    return found[:6]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_blank_rows_add_nothing(
    backbone: str, pool: str, kind: str, task: Task, examples: list[TextExample], tiny: Tiny
) -> None:
    head = "regression" if kind == "similarity" else "linear"
    model, given = tiny(task, head, backbone, pool=pool), batch(task, examples)
    found = []
    for some in (given, with_blank(given)):
        model.zero_grad()
        inputs = model.collate(some, 0)
        loss = model(**inputs.tensors).losses["loss"]
        loss.backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        assert gradients.keys() == dict(model.named_parameters()).keys()
        found.append((loss.detach(), gradients, inputs.num_targets["loss"]))
    (loss, gradients, num_targets), (blank_loss, blank_gradients, blank_num_targets) = found
    assert num_targets == blank_num_targets > 0
    torch.testing.assert_close(blank_loss, loss)
    torch.testing.assert_close(blank_gradients, gradients, rtol=1e-4, atol=1e-5)


def test_nothing_but_blank_rows_is_a_loss_of_nothing(task: Task, examples: list[TextExample], tiny: Tiny) -> None:
    model = tiny(task, "regression" if task.outputs.size == 1 else "linear")
    nothing = with_blank(batch(task, examples))
    nothing = Batch(*(values[:1] for values in nothing[:3]), None, {n: v[:1] for n, v in nothing.extras.items()})
    inputs = model.collate(nothing, 0)
    loss = model(**inputs.tensors).losses["loss"]
    loss.backward()
    assert (loss.item(), inputs.num_targets["loss"]) == (0.0, 0.0)
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_without_labels_there_are_outputs_and_no_loss(task: Task, examples: list[TextExample], tiny: Tiny) -> None:
    model = tiny(task, "regression" if task.outputs.size == 1 else "linear").eval()
    inputs = model.collate(batch(task, [e._replace(label=None) for e in examples], labelled=False), 0)
    loss, outputs = model.assess(**inputs.tensors)
    _, with_labels = model.assess(**model.collate(batch(task, examples), 0).tensors)
    assert (loss.item(), inputs.num_targets["loss"]) == (0.0, 0.0)
    torch.testing.assert_close(outputs, with_labels)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_first_states_alone_give_the_same_loss_and_gradients(
    backbone: str, task: Task, examples: list[TextExample], tiny: Tiny
) -> None:
    model = tiny(task, "regression" if task.outputs.size == 1 else "linear", backbone)
    inputs = model.collate(batch(task, examples), 0)
    found = []
    assert model.head.first_only
    for first_only in (True, False):
        model.head.first_only = first_only
        model.zero_grad()
        loss = model(**inputs.tensors).losses["loss"]
        loss.backward()
        found.append((loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}))  # type: ignore[union-attr]
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_segments_change_what_a_pair_means(
    tokenizer: Tokenizer, pairs: list[TextExample], reviews: list[TextExample], tiny: Tiny
) -> None:
    task = tasks(tokenizer)["pair"]
    model, given = tiny(task).eval(), batch(task, pairs[:4])
    flat = given._replace(extras={**given.extras, "segments": np.zeros_like(given.extras["segments"])})
    _, outputs = model.assess(**model.collate(given, 0).tensors)
    _, flat_outputs = model.assess(**model.collate(flat, 0).tensors)
    assert (outputs["logits_BK"] - flat_outputs["logits_BK"]).abs().min() > 0
    # A backbone with segments reads single texts as well, all of them segment 0.
    single = ClassificationOptions().bind(NAMES, tokenizer, 32)
    single.num_segments = 2
    tensors = tiny(single).collate(batch(single, reviews[:4]), 0).tensors
    assert not tensors["segments_BT"].any()


def test_augmentation_is_on_in_training_and_off_in_validation(
    tokenizer: Tokenizer, reviews: list[TextExample], tiny: Tiny
) -> None:
    task = ClassificationOptions(augment=Augmentation(mask_prob=0.5)).bind(NAMES, tokenizer, 32)
    model = tiny(task)
    given, validation = batch(task, reviews), batch(task, reviews, epoch=-1)
    assert (model.collate(given, 0).tensors["ids_BT"].numpy() != given.ids).any()
    np.testing.assert_array_equal(model.collate(validation, 0).tensors["ids_BT"].numpy(), given.ids)


def test_class_weights_are_no_weights_of_a_checkpoint(tokenizer: Tokenizer, tiny: Tiny) -> None:
    model = tiny(tasks(tokenizer)["classification"])
    assert not [name for name in model.state_dict() if "weights_K" in name]
