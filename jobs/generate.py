"""Let a causal language model go on with a prompt: `python jobs/generate.py RUN --prompt "..." [--help for more]`."""

import sys

from reforge.runs.generate_command import generate_command

if __name__ == "__main__":
    sys.exit(generate_command())
