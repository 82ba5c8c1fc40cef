"""The training loop: a generator of step reports that knows neither Ray nor TensorBoard, and all of its state."""

from reforge.loop.checkpoint import Checkpoints, restore
from reforge.loop.corpus_data import CorpusData
from reforge.loop.evaluate import evaluate
from reforge.loop.optimizer import OptimizerOptions
from reforge.loop.plan import Goal, Plan, TrainingData
from reforge.loop.precision import Precision, resolve_precision
from reforge.loop.state import Best, LoopState, seed_everything
from reforge.loop.task_data import Assessed, LabelledSet, TaskData, assess, score
from reforge.loop.tensors import load_tensors, named_tensors, state_tensors
from reforge.loop.train import StepReport, TrainingDiverged, TrainOptions, is_over, last_step, train
from reforge.loop.world import World

__all__ = [
    "Assessed",
    "Best",
    "Checkpoints",
    "CorpusData",
    "Goal",
    "LabelledSet",
    "LoopState",
    "OptimizerOptions",
    "Plan",
    "Precision",
    "StepReport",
    "TaskData",
    "TrainOptions",
    "TrainingData",
    "TrainingDiverged",
    "World",
    "assess",
    "evaluate",
    "is_over",
    "last_step",
    "load_tensors",
    "named_tensors",
    "resolve_precision",
    "restore",
    "score",
    "seed_everything",
    "state_tensors",
    "train",
]
