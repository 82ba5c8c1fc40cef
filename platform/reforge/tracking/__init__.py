"""Where a run's numbers go: TensorBoard, metrics.jsonl and the progress line. Knows nothing of Ray or of the loop."""

from reforge.tracking.metrics_log import MetricsLog, read_metrics
from reforge.tracking.progress import Lines, Progress
from reforge.tracking.tensorboard import TensorBoardSink

__all__ = ["Lines", "MetricsLog", "Progress", "TensorBoardSink", "read_metrics"]
