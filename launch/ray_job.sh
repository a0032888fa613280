#!/usr/bin/env bash
# Trains as a job of a Ray cluster, with Ray's own command, from the project's folder:
#
#     launch/ray_job.sh configs/digits.yaml [--set key=value ...]
#
# ADDRESS is the cluster's job server (default http://127.0.0.1:8265). The run is written to OUTPUT_DIR (default: runs/ in
# this folder), which must be storage that the cluster mounts at the same path. The cluster's token is read from
# ~/.ray/auth_token or the file that RAY_AUTH_TOKEN_PATH names.
#
# Ends with 0 or 1, as `ray job submit` does, and Ctrl-C leaves the job running. `distkeras launch ray` runs the same job,
# ends with the job's own exit code, stops it on Ctrl-C and fetches the run.
set -eu

if [ $# -lt 1 ]; then
    echo "usage: $0 CONFIG [--set KEY=VALUE ...]" >&2
    exit 2
fi
config=$1
shift
cd "$(dirname "$0")/.."

# Ray sends the token only in this mode, and obeys the second variable more than --address.
export RAY_AUTH_MODE=token
export RAY_API_SERVER_ADDRESS=${ADDRESS:-http://127.0.0.1:8265}
ray=$(command -v ray || echo .venv/bin/ray)

exec "$ray" job submit --working-dir . --runtime-env launch/runtime_env.yaml -- \
    distkeras train --config "$config" --set "output_dir=${OUTPUT_DIR:-$PWD/runs}" "$@"
