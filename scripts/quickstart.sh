#!/usr/bin/env bash
# From a clean clone to a model that demonstrably uses time: make the gestures data set, train TSN (no shift) and TSM
# (shift) with the same recipe and seed, test both, and show the result. Then train the network with a unidirectional
# shift, which needs past frames only, and let it follow a long video frame by frame. Arguments go to
# tools/quickstart.py (see --help).
# Expected after about 12 minutes on two cores, in runs/quickstart/: report.html, annotated.mp4, and results.json with
# tsm_top1 >= 95, tsn_top1 <= 55, uni_top1 about 95 (the unidirectional network on the same clips) and streaming_top1
# about 95 (the gestures of the long video); all in percent.
set -eu
cd "$(dirname "$0")/.."
PYTHON=$(bash scripts/setup_env.sh requirements.txt)
exec "$PYTHON" tools/quickstart.py "$@"
