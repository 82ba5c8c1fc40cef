"""Where a run's numbers go: TensorBoard, metrics.jsonl and the progress line. Knows nothing of Ray or of the loop."""

from reforge.tracking.error_list import write_errors
from reforge.tracking.figures import confusion_figure, per_class_figure
from reforge.tracking.metrics_log import MetricsLog, read_metrics
from reforge.tracking.progress import Lines, Progress
from reforge.tracking.tensorboard import TensorBoardSink

__all__ = [
    "Lines",
    "MetricsLog",
    "Progress",
    "TensorBoardSink",
    "confusion_figure",
    "per_class_figure",
    "read_metrics",
    "write_errors",
]
