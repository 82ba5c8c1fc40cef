"""Ask a finished fine-tuning: `python jobs/predict.py RUN [TEXT ...] [--serve] [--help for more]`."""

import sys
from pathlib import Path

from reforge.runs.predict_command import predict_command


def serve(run: Path, host: str, port: int) -> None:
    """Answer HTTP."""
    from reforge.distributed.serve import serve_run  # here: Ray takes seconds to import, and a text needs none of it

    serve_run(run, host, port)


if __name__ == "__main__":
    sys.exit(predict_command(serve))
