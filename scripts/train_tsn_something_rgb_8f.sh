#!/usr/bin/env bash
# TSN ResNet-50 (no shift), 8 frames, Something-Something-V1: the baseline that sees no time.
# Published (paper, table 1): 20.5% by --protocol accurate (test_models.py something), TSM's 47.3% likewise.
# The learning rate goes with the batch: --batch-size 128 --lr 0.02, --batch-size 32 --lr 0.005.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" main.py something RGB \
    --arch resnet50 --num_segments 8 \
    --gd 20 --lr 0.01 --wd 5e-4 --lr_steps 20 40 --epochs 50 \
    --batch-size 64 -j 16 --dropout 0.5 --consensus_type=avg --eval-freq=1 \
    --npb \
    "$@"
