#!/bin/sh
# Everything a change must pass, after `sh setup.sh`.
#   sh check.sh                  lint, types and all tests, on as many processes as there are cores, at most four
#   sh check.sh -m "not slow"    the same with the fast tests only; arguments go to pytest (-n 0: one process)
#   sh check.sh lint             lint and types alone
#   sh check.sh audit            known vulnerabilities of what is installed: pip-audit, in an environment of its own
set -eu
cd -- "$(dirname -- "$0")"
python=.venv/bin/python

if [ "${1-}" = audit ]; then
    shift
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    "$python" -m venv "$folder"
    "$folder/bin/pip" install --quiet pip-audit
    "$folder/bin/pip-audit" --skip-editable --path "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" "$@"
    exit
fi

# Tests start hundreds of processes: what one has compiled, the next need not compile again.
unset PYTHONDONTWRITEBYTECODE

"$python" -m ruff check --quiet
"$python" -m ruff format --diff --quiet
"$python" -m mypy
[ "${1-}" != lint ] || exit 0
# A file's tests stay together: they share what the first of them trained or started.
processes=$("$python" -c "import os; print(min(4, os.cpu_count() or 1))")
exec "$python" -m pytest -n "$processes" --dist loadfile "$@"
