"""Where a run's numbers go: TensorBoard, metrics.jsonl, the progress line, pictures, lists and tables for people.

Knows nothing of Ray or of the loop.
"""

from reforge.tracking.entities import show_classes, show_entities
from reforge.tracking.error_list import write_errors
from reforge.tracking.figures import confusion_figure, per_class_figure
from reforge.tracking.hparams import HParamsBoard, Interval
from reforge.tracking.metrics_log import MetricsLog, read_metrics
from reforge.tracking.progress import Lines, Progress
from reforge.tracking.references import Reference, References, ResultRow, load_references
from reforge.tracking.results_table import write_table
from reforge.tracking.tensorboard import TensorBoardSink
from reforge.tracking.trial_columns import TrialRow
from reforge.tracking.trials_table import SearchHead, TrialsTable
from reforge.tracking.whole_file import write_whole

__all__ = [
    "HParamsBoard",
    "Interval",
    "Lines",
    "MetricsLog",
    "Progress",
    "Reference",
    "References",
    "ResultRow",
    "SearchHead",
    "TensorBoardSink",
    "TrialRow",
    "TrialsTable",
    "confusion_figure",
    "load_references",
    "per_class_figure",
    "read_metrics",
    "show_classes",
    "show_entities",
    "write_errors",
    "write_table",
    "write_whole",
]
