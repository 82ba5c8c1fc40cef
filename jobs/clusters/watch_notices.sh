#!/bin/sh
# Tells Ray when the cloud is about to take this node away, so that training ends its step and keeps a checkpoint.
#   sh jobs/clusters/watch_notices.sh aws|gcp [METADATA_URL]
# Runs on a worker node until then; its environment has the cluster's token. AWS gives two minutes, Google Cloud 30 s.
set -u
cloud=$1
case $cloud in
aws) url=${2-http://169.254.169.254} seconds=120 ;;
gcp) url=${2-http://metadata.google.internal} seconds=30 ;;
*) echo "watch_notices: aws or gcp, not $cloud" >&2 && exit 2 ;;
esac
get() { curl --silent --fail --max-time 5 --noproxy '*' "$@"; }

# AWS answers 404 as long as there is no notice, and to nobody without a token of its own.
aws_notice() {
    token=$(get --request PUT --header 'X-aws-ec2-metadata-token-ttl-seconds: 60' "$url/latest/api/token") &&
        get --header "X-aws-ec2-metadata-token: $token" "$url/latest/meta-data/spot/instance-action"
}
gcp_notice() {
    [ "$(get --header 'Metadata-Flavor: Google' "$url/computeMetadata/v1/instance/preempted")" = TRUE ]
}

until "${cloud}_notice" >/dev/null; do
    sleep 3
done
# Without an id it is the node that this runs on.
until ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message "notice from $cloud" \
    --deadline-remaining-seconds "$seconds"; do
    sleep 1
done
