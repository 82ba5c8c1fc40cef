#!/bin/sh
# Starts cluster.yaml for real: a head and a worker on this machine, reached by ssh, with processes, network, home and
# /tmp/ray of their own; submits a job both ways, looks at what listens, and takes everything down again.
#   sh jobs/clusters/try_local.sh
# Needs Linux, root, and unshare, ip, ss, ssh, sshd and rsync on the PATH. Exit code 77: one of them is not to be had.
# Nothing outside is touched: all it starts lives in Linux namespaces and ends with this script. KEEP=1 keeps its
# folder, with the logs of ssh and Ray.
set -eu
cd -- "$(dirname -- "$0")/../.."
PATH=$PATH:/usr/sbin:/sbin

skip() { printf 'try_local: skipped: %s\n' "$*"; exit 77; }
step() { printf '== %s (%s s)\n' "$*" "$(($(date +%s) - started))"; }
fail() { printf 'try_local: failed: %s\n' "$*" >&2; exit 1; }

if [ "${1-}" != inside ]; then
    [ "$(id -u)" = 0 ] || skip "not root"
    for program in unshare ip ss ssh ssh-keygen sshd rsync; do
        command -v "$program" >/dev/null || skip "no $program"
    done
    unshare --pid --mount --net --fork true 2>/dev/null || skip "no namespaces for us"
    folder=$(mktemp -d "${TMPDIR:-/tmp}/reforge-try.XXXXXX")
    unshare --pid --mount --net --fork --mount-proc --kill-child sh "$0" inside "$folder" &
    inside=$!
    # unshare hears nothing but this; with it goes all that it started.
    trap 'kill -9 $inside 2>/dev/null || true; [ -n "${KEEP-}" ] || rm -rf "$folder"' EXIT
    trap 'exit 130' INT TERM
    code=0 && wait $inside || code=$?
    exit $code
fi

folder=$2
root=$PWD
started=$(date +%s)
export HOME="$folder/laptop" RAY_USAGE_STATS_ENABLED=0
unset RAY_ADDRESS RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH

# A host: its own processes, network, users, home and /tmp/ray; sshd alone runs there at first.
host() { # NAME ADDRESS
    mkdir -p "$folder/$1/reforge/.venv" "$folder/$1/ray"
    printf '%s\n' "root:x:0:0:root:$folder/home:/bin/bash" "sshd:x:100:65534::/run/sshd:/bin/false" >"$folder/$1/passwd"
    # Where the programs above are is known to login shells as well, which set a PATH of their own.
    echo "export PATH='$PATH'${LD_LIBRARY_PATH:+ LD_LIBRARY_PATH='$LD_LIBRARY_PATH'}" >"$folder/$1/.bashrc"
    cat >"$folder/$1/start.sh" <<HOST
set -eu
until ip link show eth0 >/dev/null 2>&1; do sleep 0.1; done
ip link set lo up && ip address add $2/24 dev eth0 && ip link set eth0 up
for place in /run /dev/shm; do mount -t tmpfs tmpfs \$place; done
mount --bind "$folder/$1/ray" /tmp/ray
mount --bind "$folder/$1/passwd" /etc/passwd
mount --bind "$folder/$1" "$folder/home"
mount --bind "$root/.venv" "$folder/home/reforge/.venv"
mkdir -p /run/sshd
exec "$(command -v sshd)" -D -e -f "$folder/sshd_config"
HOST
    unshare --pid --mount --net --fork --mount-proc --kill-child sh "$folder/$1/start.sh" 2>"$folder/$1/sshd.log" &
    until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
    ip link add "$1" type veth peer name eth0 netns $!
    ip link set "$1" master hosts up
    eval "$1_process=$!"
}

on() { eval "nsenter --net --target \$$1_process -- $2"; } # what listens is known without asking the host itself

mkdir -p "$HOME/.ssh" "$folder/home" "$folder/shared" /tmp/ray
mount -t tmpfs tmpfs /tmp/ray
ip link set lo up
ip link add hosts type bridge
ip address add 10.77.0.1/24 dev hosts
ip link set hosts up
ssh-keygen -q -t ed25519 -N '' -f "$HOME/.ssh/reforge"
ssh-keygen -q -t ed25519 -N '' -f "$folder/host_key"
cat >"$folder/sshd_config" <<SSHD
HostKey $folder/host_key
AuthorizedKeysFile $HOME/.ssh/reforge.pub
StrictModes no
PasswordAuthentication no
PidFile none
MaxStartups 100
SetEnv PATH=$PATH${LD_LIBRARY_PATH:+ LD_LIBRARY_PATH=$LD_LIBRARY_PATH}
SSHD
host head 10.77.0.2
host worker 10.77.0.3

# cluster.yaml with its hosts filled in, and without the installation: .venv is there already, and no network.
.venv/bin/python - "$folder/cluster.yaml" "$HOME/.ssh/reforge" <<'FILL'
import os, sys, yaml
with open("cluster.yaml", encoding="utf-8") as file:
    cluster = yaml.safe_load(file)
cluster["provider"].update(head_ip="10.77.0.2", worker_ips=["10.77.0.3"])
cluster["auth"].update(ssh_user="root", ssh_private_key=sys.argv[2])
cluster.update(min_workers=1, max_workers=1, cluster_name=f"try-{os.urandom(4).hex()}")
cluster["setup_commands"].remove("cd ~/reforge && sh setup.sh")
with open(sys.argv[1], "w", encoding="utf-8") as file:
    yaml.safe_dump(cluster, file)
FILL
yaml=$folder/cluster.yaml
ray() { .venv/bin/ray "$@"; }

step "ray up"
ray up --yes "$yaml" >"$folder/up.log" 2>&1 || { tail -n 30 "$folder/up.log"; fail "ray up"; }

step "the token is fetched by ssh"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$folder/token"
ray rsync-down "$yaml" '~/.ray/auth_token' "$RAY_AUTH_TOKEN_PATH" >/dev/null 2>&1
[ "$(stat -c %a "$RAY_AUTH_TOKEN_PATH")" = 600 ] || fail "the token's file is not for its owner alone"

step "ray dashboard"
ray dashboard "$yaml" >"$folder/dashboard.log" 2>&1 &
export RAY_ADDRESS=http://127.0.0.1:8265
until ray job list >/dev/null 2>&1; do sleep 1; done

job="jobs/specs/quickstart.yaml train.max_steps=20 train.eval_every_steps=20 run.storage=$folder/shared/runs"
step "ray job submit -- python jobs/pretrain.py"
ray job submit -- python jobs/pretrain.py $job name=bare >"$folder/bare.log" 2>&1 ||
    { tail -n 40 "$folder/bare.log"; fail "the bare submission"; }
step "ray job submit --working-dir . -- python jobs/pretrain.py"
ray job submit --working-dir . -- python jobs/pretrain.py $job name=uploaded >"$folder/uploaded.log" 2>&1 ||
    { tail -n 40 "$folder/uploaded.log"; fail "the submission with --working-dir"; }
grep -h "^finished" "$folder/bare.log" "$folder/uploaded.log"
cmp "$folder/shared/runs/bare/model.safetensors" "$folder/shared/runs/uploaded/model.safetensors" ||
    fail "both ways gave different weights"

step "what listens"
for name in head worker; do
    on $name "ss -Hltn" | awk -v name=$name '{print name, $4}' | sort -u
done >"$folder/listening"
cat "$folder/listening"
! grep -E ":(8265|10001)$" "$folder/listening" | grep -v "127.0.0.1:" ||
    fail "the dashboard or Ray Client listens beyond loopback"
! grep -rlF --exclude=token --exclude=auth_token "$(cat "$RAY_AUTH_TOKEN_PATH")" "$folder" ||
    fail "the token is in a file that is not its own"

step "ray down"
ray down --yes "$yaml" >"$folder/down.log" 2>&1 || { tail -n 30 "$folder/down.log"; fail "ray down"; }
for name in head worker; do
    eval "process=\$${name}_process"
    left=$(nsenter --pid --mount --target "$(tr -d ' ' </proc/"$process"/task/"$process"/children)" -- ps -eo args)
    ! printf '%s\n' "$left" | grep -E 'raylet|gcs_server' || fail "Ray still runs on the $name"
done
step "done"
