#!/usr/bin/env bash
# Trains on all devices of this machine and starts again after a preemption, from the last commit:
#
#     launch/single_node.sh configs/digits.yaml [--set key=value ...]
#
# Exit 75 means "committed, start me again" (a SIGTERM reached the training process alone); anything else ends here, with
# the same code. A SIGTERM or Ctrl-C to this script is passed on, and nothing is started again after it.
# ATTEMPTS (default 10) is the most starts in all; DISTKERAS names the command (default: distkeras, else .venv/bin's).
set -u

if [ $# -lt 1 ]; then
    echo "usage: $0 CONFIG [--set KEY=VALUE ...]" >&2
    exit 2
fi
config=$1
shift
beside=$(dirname "$0")/../.venv/bin/distkeras
command=${DISTKERAS:-$(command -v distkeras || echo "$beside")}

stopping=
child=
pass_on() {
    stopping=yes
    [ -n "$child" ] && kill -s "$1" "$child" 2>/dev/null
}
trap 'pass_on TERM' TERM
trap 'pass_on INT' INT

for attempt in $(seq "${ATTEMPTS:-10}"); do
    "$command" train --config "$config" "$@" &
    child=$!
    # `wait` returns early when a trapped signal comes; the process behind it is still to be waited for.
    while :; do
        wait "$child"
        code=$?
        kill -0 "$child" 2>/dev/null || break
    done
    if [ "$code" -ne 75 ] || [ -n "$stopping" ]; then
        exit "$code"
    fi
    echo "preempted; start $((attempt + 1)) goes on from the last commit" >&2
done
exit 75
