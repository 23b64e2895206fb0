#!/usr/bin/env bash
# TSM ResNet-50 on optical flow (8 segments of 5 pairs), Something-Something-V1, from inflated ImageNet weights.
# First make the flow: tools/extract_flow.py with --layout something_v1. No accuracy was published; the author
# mentions about 42%, with the numbers of the RGB recipe. To start from the released Kinetics flow model instead:
# --tune_from "$(python tools/download_weights.py TSM_kinetics_Flow_resnet50_shift8_blockres_avg_segment8_e50)"
# Scale the learning rate with the batch size: --batch-size 128 --lr 0.02, --batch-size 32 --lr 0.005.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh
train_tsm something Flow \
    --arch resnet50 --num_segments 8 \
    --lr 0.01 --wd 5e-4 --lr_steps 20 40 --epochs 50 \
    --batch-size 64 --dropout 0.5 --npb \
    "$@"
