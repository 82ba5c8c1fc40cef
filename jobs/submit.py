"""Submit a job and follow it: `python jobs/submit.py [--working-dir DIR] [SCRIPT.py] [its arguments]`."""

import sys

from reforge.distributed.submit_command import submit_command

if __name__ == "__main__":
    sys.exit(submit_command())
