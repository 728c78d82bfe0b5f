#!/bin/sh
# Starts a machine of a fleet and, on SIGTERM, lets it finish its work first. Give it DRAIN_SECONDS and 90 s before a kill.
set -u
file=${AINODE_CONFIG:-/etc/ainode/config.toml}
machine=$(cat /proc/sys/kernel/hostname)
ainode drain --undo "$machine" --config "$file"  # fails where it was not drained
trap 'ainode drain "$machine" --wait "${DRAIN_SECONDS:-600}" --config "$file"; kill -TERM "$!"' TERM
ainode run --config "$file" &
node=$!
wait "$node"
status=$?
while kill -0 "$node" 2>/dev/null; do  # SIGTERM has ended the first wait
    wait "$node"
    status=$?
done
exit "$status"
