#!/usr/bin/env bash
# TSM ResNet-50, 8 frames, Jester, from ImageNet weights.
# Published (paper, table 1): 97.0% by --protocol accurate (test_models.py jester).
# Its recipe was not published; these are Something-Something's numbers.
# Scale the learning rate with the batch size: --batch-size 128 --lr 0.02, --batch-size 32 --lr 0.005.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh
train_tsm jester RGB \
    --arch resnet50 --num_segments 8 \
    --lr 0.01 --wd 5e-4 --lr_steps 20 40 --epochs 50 \
    --batch-size 64 --dropout 0.5 --npb \
    "$@"
