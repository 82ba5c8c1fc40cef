"""Search for the best pre-training: `python jobs/tune_pretrain.py [--space FILE] [key.path=value ...]`."""

import sys
from pathlib import Path

from reforge.distributed.tune_command import tune_command
from reforge.runs.job import PretrainJob

if __name__ == "__main__":
    sys.exit(
        tune_command(PretrainJob, default_space=Path(__file__).parents[1] / "search_spaces" / "smoke_pretrain.yaml")
    )
