"""Pre-train a language model: `python jobs/pretrain.py [SPEC] [key.path=value ...] [--render | --dry-run]`."""

import sys
from pathlib import Path

from reforge.distributed.command import pretrain_command

if __name__ == "__main__":
    sys.exit(pretrain_command(default_spec=Path(__file__).parent / "specs" / "quickstart.yaml"))
