"""Search for the best fine-tuning: `python jobs/tune_finetune.py [--space FILE] [key.path=value ...]`."""

import sys
from pathlib import Path

from reforge.distributed.tune_command import tune_command
from reforge.runs.finetune_job import FinetuneJob

if __name__ == "__main__":
    sys.exit(tune_command(FinetuneJob, default_space=Path(__file__).parents[1] / "search_spaces" / "smoke.yaml"))
