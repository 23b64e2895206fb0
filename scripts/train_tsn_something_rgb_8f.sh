#!/usr/bin/env bash
# TSN ResNet-50 (no shift), 8 frames, Something-Something-V1: the baseline without temporal modelling.
# Published (paper, table 1): 20.5% by --protocol accurate (test_models.py something), against 47.3% for TSM.
# Scale the learning rate with the batch size: --batch-size 128 --lr 0.02, --batch-size 32 --lr 0.005.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh
train_tsn something RGB \
    --arch resnet50 --num_segments 8 \
    --lr 0.01 --wd 5e-4 --lr_steps 20 40 --epochs 50 \
    --batch-size 64 --dropout 0.5 --npb \
    "$@"
