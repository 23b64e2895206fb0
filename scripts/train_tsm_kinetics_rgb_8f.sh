#!/usr/bin/env bash
# TSM ResNet-50, 8 frames, Kinetics-400, uniform sampling, from ImageNet weights.
# Published for this recipe: 71.2% (72.8% with --test_crops 10) by test_models.py kinetics --protocol efficient.
# Scale the learning rate with the batch size: --batch-size 256 --lr 0.04, --batch-size 64 --lr 0.01.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh
train_tsm kinetics RGB \
    --arch resnet50 --num_segments 8 \
    --lr 0.02 --wd 1e-4 --lr_steps 20 40 --epochs 50 \
    --batch-size 128 --dropout 0.5 --npb \
    "$@"
