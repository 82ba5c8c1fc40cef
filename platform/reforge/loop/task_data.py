"""A labelled set as the loop takes it: rows to train on, whole examples to be predicted and scored.

rows of a rank --TaskModel.assess--> outputs --digest--> gathered --predict--> predictions --score--> Scorecard
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from reforge.corpora.labelled import Example
from reforge.loop.evaluate import VALIDATION_EPOCH
from reforge.loop.plan import Goal, Plan, TrainingData
from reforge.loop.precision import Precision, autocast
from reforge.loop.sharding import whole
from reforge.loop.state import LoopState, seed_everything
from reforge.loop.world import World
from reforge.tasks import RowSet, Scorecard, Task, TaskModel


@dataclass(frozen=True)
class LabelledSet:
    """Examples and their rows."""

    examples: Sequence[Example]
    rows: RowSet

    @classmethod
    def of(cls, task: Task, examples: Sequence[Example], labelled: bool = True) -> "LabelledSet":
        """The rows of `task`; raises UserError, naming the example, where one cannot be a row."""
        return cls(examples, RowSet(task.rows(examples, labelled)))


class Assessed(NamedTuple):
    """A set as a model answers it: the loss in nats a target (nan without targets), and a prediction an example."""

    loss: float
    predictions: list[Any]


@dataclass(frozen=True)
class TaskData(TrainingData):
    """The training rows of a task and its validation set."""

    task: Task
    train: RowSet
    valid: LabelledSet
    goal: Goal

    def check(self, state: LoopState) -> None:
        """Rows fit the task that made them."""

    def validate(self, state: LoopState, plan: Plan, world: World) -> dict[str, float]:
        """The task's scores on the whole validation set, and the loss."""
        assert isinstance(state.model, TaskModel)
        with whole(state.model):
            assessed = assess(
                state.model, self.task, self.valid, world, plan.precision, state.seed, plan.micro_batch_tokens
            )

        def scores() -> dict[str, float]:
            assert assessed is not None
            return {**score(self.task, self.valid, assessed).metrics, "loss": assessed.loss}

        return world.on_first(scores)


def score(task: Task, labelled: LabelledSet, assessed: Assessed) -> Scorecard:
    """The scores of a set's predictions."""
    return task.score(labelled.examples, assessed.predictions)


@torch.no_grad()
def assess(
    model: TaskModel,
    task: Task,
    labelled: LabelledSet,
    world: World,
    precision: Precision,
    seed: int,
    micro_batch_tokens: int,
) -> Assessed | None:
    """`model`'s predictions for every example, on the first process (None on the others); all must call it.

    A model that is sharded must be whole.
    """
    digests: list[tuple[int, Any]] = []
    totals = torch.zeros(2, dtype=torch.float64, device=world.device)
    rows = labelled.rows
    was_training = model.training
    model.eval()
    for number, (_, part) in enumerate(rows.parts(rows.all_indices, VALIDATION_EPOCH, micro_batch_tokens)):
        if number % world.size != world.rank:
            continue
        # LSH hashes are random here too: the same for every part, an answer does not depend on what else is asked.
        seed_everything(seed, "assess")
        inputs = model.collate(rows.read(part, seed), seed).to(world.device)
        with autocast(precision, world.device):
            loss, outputs = model.assess(**inputs.tensors)
        totals += torch.stack([loss.double(), loss.new_tensor(inputs.num_targets["loss"]).double()])
        arrays = {name: output.cpu().numpy() for name, output in outputs.items()}
        for place, index in enumerate(part.samples.tolist()):
            one = {name: array[place] for name, array in arrays.items()}
            digests.append((index, task.digest(rows.row(index), one)))
    model.train(was_training)
    loss_sum, num_targets = world.sum(totals).tolist()
    gathered = world.gather_on_first(digests)
    if gathered is None:
        return None
    by_example = digests_by_example(labelled, [digest for share in gathered for digest in share])
    mean = loss_sum / num_targets if num_targets else float("nan")
    return Assessed(mean, task.predict(labelled.examples, by_example))


def digests_by_example(labelled: LabelledSet, digests: list[tuple[int, Any]]) -> list[list[Any]]:
    """Each example's digests in the order of its rows, from (row, digest) in any order."""
    found = dict(digests)
    assert len(found) == len(labelled.rows), "every row is read exactly once"
    by_example: list[list[Any]] = [[] for _ in labelled.examples]
    for index in labelled.rows.order.argsort().tolist():
        by_example[labelled.rows.examples[index]].append(found[index])
    return by_example
