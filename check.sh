#!/bin/sh
# Everything a change must pass, after `sh setup.sh`.
#   sh check.sh                  lint, types and all tests, on as many processes as there are cores, at most four
#   sh check.sh -m "not slow"    the same with the fast tests only; arguments go to pytest (-n 0: one process)
#   sh check.sh lint             lint and types alone
set -eu
cd -- "$(dirname -- "$0")"
python=.venv/bin/python

"$python" -m ruff check --quiet
"$python" -m ruff format --diff --quiet
"$python" -m mypy
[ "${1-}" != lint ] || exit 0
# A file's tests stay together: they share what the first of them trained or started.
processes=$("$python" -c "import os; print(min(4, os.cpu_count() or 1))")
exec "$python" -m pytest -n "$processes" --dist loadfile "$@"
