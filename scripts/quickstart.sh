#!/usr/bin/env bash
# From a clean clone to a model that provably sees time: make the gestures data set, train TSN (no shift) and TSM
# (shift) with the same recipe and seed, test both, show the result. Arguments go to tools/quickstart.py (--help).
# Expected, in runs/quickstart/: results.json with tsm_top1 >= 95 and tsn_top1 <= 55 (percent); report.html.
set -eu
cd "$(dirname "$0")/.."
PYTHON=$(bash scripts/setup_env.sh requirements.txt)
exec "$PYTHON" tools/quickstart.py "$@"
