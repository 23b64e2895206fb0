#!/usr/bin/env bash
# TSN ResNet-50 (no shift), Kinetics-400: trained with 5 frames, tested with 8, as published.
# Published: 68.8% by test_models.py kinetics --test_segments 8 --protocol efficient (10 crops: 69.9%).
# Scale the learning rate with the batch size: --batch-size 256 --lr 0.04, --batch-size 64 --lr 0.01.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh
train_tsn kinetics RGB \
    --arch resnet50 --num_segments 5 \
    --lr 0.02 --wd 1e-4 --lr_steps 20 40 --epochs 50 \
    --batch-size 128 --dropout 0.5 --npb \
    "$@"
