"""Fine-tuning tasks: labelled examples in, rows for the model, predictions and the field's scores out.

A new task is one file with a `TaskOptions` class, one line in `TASKS` and one spec in jobs/specs/.
"""

from typing import TYPE_CHECKING

from reforge.spec import one_of
from reforge.tasks.classification import ClassificationOptions
from reforge.tasks.ner import NerOptions
from reforge.tasks.pair import PairOptions
from reforge.tasks.question_answering import QuestionAnsweringOptions
from reforge.tasks.row_set import RowSet
from reforge.tasks.similarity import SimilarityOptions
from reforge.tasks.task import Confusion, Row, Scorecard, Task, TaskModel, TaskOptions, Verdict

TASKS: dict[str, type[TaskOptions]] = {
    "classification": ClassificationOptions,
    "ner": NerOptions,
    "pair": PairOptions,
    "question_answering": QuestionAnsweringOptions,
    "similarity": SimilarityOptions,
}

if TYPE_CHECKING:
    AnyTask = TaskOptions
else:
    AnyTask = one_of(TASKS)

__all__ = [
    "TASKS",
    "AnyTask",
    "Confusion",
    "Row",
    "RowSet",
    "Scorecard",
    "Task",
    "TaskModel",
    "TaskOptions",
    "Verdict",
]
