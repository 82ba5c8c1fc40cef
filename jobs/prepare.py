"""Prepare a corpus, tokenizer and shards, and train nothing: `python jobs/prepare.py [SPEC] [key.path=value ...]`."""

import sys
from pathlib import Path

from reforge.distributed.prepare import prepare_command

if __name__ == "__main__":
    sys.exit(prepare_command(default_spec=Path(__file__).parent / "specs" / "quickstart.yaml"))
