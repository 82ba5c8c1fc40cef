#!/bin/sh
# Makes .venv with everything reforge needs; a second run finds it done and returns at once.
#   sh setup.sh                     takes a suitable python3 from the PATH
#   PYTHON=/some/python sh setup.sh takes that one
set -eu
cd -- "$(dirname -- "$0")"

say() { printf '%s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# torch 2.13.0 and Ray 2.60.0 have builds for 3.11 to 3.14.
suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; }
can_make_environments() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

find_python() {
    without_venv=
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.14 python; do
        if ! suits "$candidate"; then
            [ "$candidate" != "${PYTHON-}" ] || fail "PYTHON=$PYTHON is not a Python from 3.11 to 3.14."
        elif can_make_environments "$candidate"; then
            # Not the candidate itself: with .venv activated that is the one which may have to go.
            python=$("$candidate" -c 'import sys; print(sys._base_executable)')
            return
        else
            without_venv=${without_venv:-$candidate}
        fi
    done
    [ -z "$without_venv" ] || fail "$without_venv lacks the venv module. On Debian and Ubuntu: apt install python3-venv"
    fail "no Python from 3.11 to 3.14 on the PATH. Install one, or name it: PYTHON=/some/python sh setup.sh"
}

# Two lines: what the environment stands on, and what is installed in it.
fingerprint() {
    "${PYTHON:-.venv/bin/python}" - 2>/dev/null <<'EOF'
import os, sys, tomllib
from hashlib import sha256
with open("pyproject.toml", "rb") as file:
    settings = tomllib.load(file)
for made_from in ((sys.version_info[:2], os.getcwd()), (settings["build-system"], settings["project"])):
    print(sha256(repr(made_from).encode()).hexdigest())
EOF
}

# pip is silent for minutes here, and silence looks like a hang.
with_heartbeat() {
    (
        seconds=0
        while sleep 15 >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do
            seconds=$((seconds + 15))
            say "  ... $seconds s"
        done
    ) &
    heartbeat=$!
    trap 'kill "$heartbeat" 2>/dev/null || true' EXIT
    if ! "$@"; then
        rm -f .venv/installing # pip ended in order: what it did install is sound, and the next run goes on from it
        fail "that did not work; the lines above say why. Mend it and run this again."
    fi
    { kill "$heartbeat" && wait "$heartbeat" || true; } 2>/dev/null # bash would announce that it was killed
    trap - EXIT
}

pip() { .venv/bin/python -m pip --disable-pip-version-check --no-input --quiet "$@"; }

# .venv/made-by-setup stands in what this script made; only that is ever removed. .venv/installing holds the process at
# work: where that one is gone it was interrupted, and what it left is not trusted.
make_room() {
    if [ -e .venv ] && [ ! -f .venv/made-by-setup ]; then
        fail "there is a .venv here that this script did not make. Move it away, or install into it by hand: \
pip install \"$torch\" && pip install --editable '.[dev]'"
    elif [ -f .venv/installing ]; then
        other=$(cat .venv/installing)
        # In a container the ids repeat: this process may have the number of the one that was interrupted.
        if [ "$other" != $$ ] && kill -0 "$other" 2>/dev/null; then
            fail "process $other is installing into .venv. Wait for it; if it is something else, remove .venv/installing."
        fi
        say "The last set-up was interrupted: starting over."
        rm -rf .venv
    elif [ -f .venv/complete ] && [ "$(head -n 1 .venv/complete)" != "$(fingerprint | head -n 1)" ]; then
        say "The folder has moved or Python has changed: making .venv anew."
        rm -rf .venv
    fi
}

if [ -f .venv/complete ] && [ "$(cat .venv/complete)" = "$(fingerprint)" ]; then
    exit
fi
find_python
torch=$(sed -n 's/^ *"\(torch==[^"]*\)".*/\1/p' pyproject.toml)
make_room
mkdir -p .venv
: >.venv/made-by-setup
rm -f .venv/complete
echo $$ >.venv/installing
[ -x .venv/bin/python ] || "$python" -m venv .venv
say "Setting up .venv with $(.venv/bin/python --version). The first time takes some minutes."
say "Installing $torch"
with_heartbeat pip install "$torch" # first and alone, so that no other package's range picks another build
say "Installing reforge and the rest"
with_heartbeat pip install --editable '.[dev]'
fingerprint >.venv/complete
rm .venv/installing
say "Done."
