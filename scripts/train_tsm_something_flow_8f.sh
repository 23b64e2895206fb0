#!/usr/bin/env bash
# TSM ResNet-50 on optical flow (8 segments of 5 pairs), Something-Something-V1, from inflated ImageNet weights.
# First make the flow: tools/extract_flow.py with --layout something_v1. No accuracy was published for this; its
# author calls about 42% right and uses the RGB numbers. To start from the released Kinetics flow model instead:
# --tune_from "$(python tools/download_weights.py TSM_kinetics_Flow_resnet50_shift8_blockres_avg_segment8_e50)"
# The learning rate goes with the batch: --batch-size 128 --lr 0.02, --batch-size 32 --lr 0.005.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" main.py something Flow \
    --arch resnet50 --num_segments 8 \
    --gd 20 --lr 0.01 --wd 5e-4 --lr_steps 20 40 --epochs 50 \
    --batch-size 64 -j 16 --dropout 0.5 --consensus_type=avg --eval-freq=1 \
    --shift --shift_div=8 --shift_place=blockres --npb \
    "$@"
