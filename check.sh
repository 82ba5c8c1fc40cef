#!/bin/sh
# Everything a change must pass, after `sh setup.sh`.
#   sh check.sh                  lint, types and all tests
#   sh check.sh -m "not slow"    the same with the fast tests only; arguments go to pytest
#   sh check.sh lint             lint and types alone
set -eu
cd -- "$(dirname -- "$0")"
python=.venv/bin/python

"$python" -m ruff check --quiet
"$python" -m ruff format --diff --quiet
"$python" -m mypy
[ "${1-}" != lint ] || exit 0
exec "$python" -m pytest "$@"
