#!/usr/bin/env bash
# TSM ResNet-50, 16 frames, Something-Something-V1, from ImageNet weights.
# Published: 47.2% by --protocol efficient, 48.4% by --protocol accurate (test_models.py something).
# Weight decay: 5e-4 is what the published command line uses; the paper writes 1e-4.
# The learning rate goes with the batch: --batch-size 128 --lr 0.02, --batch-size 32 --lr 0.005.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" main.py something RGB \
    --arch resnet50 --num_segments 16 \
    --gd 20 --lr 0.01 --wd 5e-4 --lr_steps 20 40 --epochs 50 \
    --batch-size 64 -j 16 --dropout 0.5 --consensus_type=avg --eval-freq=1 \
    --shift --shift_div=8 --shift_place=blockres --npb \
    "$@"
