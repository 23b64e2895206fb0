#!/usr/bin/env bash
# RGB and flow together on Something-Something-V1: the released RGB model and the flow model that
# train_tsm_something_flow_8f.sh trains, with equal weights.
# Published (paper, table 2): 52.6% for 16 + 16 frames (the command is in docs/models.md).
# Weights: python tools/download_weights.py TSM_something_RGB_resnet50_shift8_blockres_avg_segment8_e45
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh
rgb=$(released TSM_something_RGB_resnet50_shift8_blockres_avg_segment8_e45)
flow=checkpoint/TSM_something_Flow_resnet50_shift8_blockres_avg_segment8_e50/ckpt.best.pth.tar
test_models something \
    --weights="$rgb,$flow" --test_segments=8,8 --coeff=1,1 \
    --protocol efficient --batch_size=16 -j 16 \
    "$@"
