"""Score a finished fine-tuning: `python jobs/evaluate.py RUN [--data FILE] [--help for more]`."""

import sys

from reforge.runs.evaluate_command import evaluate_command

if __name__ == "__main__":
    sys.exit(evaluate_command())
