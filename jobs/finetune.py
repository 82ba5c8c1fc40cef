"""Fine-tune an encoder, or run a suite: `python jobs/finetune.py [SPEC] [key.path=value ...] [--dry-run]`."""

import sys
from pathlib import Path

from reforge.distributed.finetune_command import finetune_command

if __name__ == "__main__":
    sys.exit(finetune_command(default_spec=Path(__file__).parent / "specs" / "finetune_quickstart.yaml"))
