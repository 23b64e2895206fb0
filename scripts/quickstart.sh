#!/usr/bin/env bash
# From a clean clone to a model that provably sees time: make the gestures data set, train TSN (no shift) and TSM
# (shift) with the same recipe and seed, test both, show the result. Second act: the same network looking only back
# (unidirectional shift) follows a long video frame by frame. Arguments go to tools/quickstart.py (--help).
# Expected, after about 12 minutes on two cores, in runs/quickstart/: report.html, annotated.mp4, and results.json with
# (percent) tsm_top1 >= 95 and tsn_top1 <= 55, uni_top1 (the network looking only back, on the same clips) and
# streaming_top1 about 95 (of the long video's gestures).
set -eu
cd "$(dirname "$0")/.."
PYTHON=$(bash scripts/setup_env.sh requirements.txt)
exec "$PYTHON" tools/quickstart.py "$@"
