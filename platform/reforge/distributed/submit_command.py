"""`python jobs/submit.py`: a job on the cluster at RAY_ADDRESS, or on a head of its own, in front of one's eyes."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from reforge.distributed.arguments import guarded, say
from reforge.distributed.submission import submit
from reforge.distributed.upload import MIB, check_upload

DEFAULT_SCRIPT = "jobs/pretrain.py"


def submit_command(arguments: Sequence[str] | None = None) -> int:
    """`python jobs/submit.py [--working-dir DIR] [SCRIPT.py] [its arguments]`; the job's exit code."""
    parser = argparse.ArgumentParser(
        description="Submit a job to the cluster at RAY_ADDRESS, or to a Ray started here for it alone, and follow it."
    )
    parser.add_argument("--working-dir", type=Path, metavar="DIR", help="upload this folder and run the job in it")
    words = "a script (default: jobs/pretrain.py) and its arguments; -- before the first that begins with a dash"
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="[SCRIPT.py] ...", help=words)
    options = parser.parse_args(arguments)
    exit_codes: list[int] = []

    def work() -> None:
        if options.working_dir is not None:
            upload = check_upload(options.working_dir)
            say(f"uploading {options.working_dir}: {upload.num_files:,} files, {upload.num_bytes / MIB:.1f} MiB")
        exit_codes.append(submit(job_command(options.words), options.working_dir))

    return guarded(work, interrupted="nothing was submitted") or exit_codes[0]


def job_command(words: Sequence[str]) -> list[str]:
    """The command line of a job: the script among `words`, else the default one, and what follows."""
    rest = list(words[1:] if words[:1] == ["--"] else words)
    script = rest.pop(0) if rest and rest[0].endswith(".py") else DEFAULT_SCRIPT
    # Of the node's PATH: it runs there.
    return ["python", script, *rest]
