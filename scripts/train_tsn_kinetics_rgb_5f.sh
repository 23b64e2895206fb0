#!/usr/bin/env bash
# TSN ResNet-50 (no shift), Kinetics-400: trained with 5 frames, tested with 8, as published.
# Published: 68.8%, by test_models.py kinetics --test_segments 8 --protocol efficient (10 crops: 69.9%).
# The learning rate goes with the batch: --batch-size 256 --lr 0.04, --batch-size 64 --lr 0.01.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" main.py kinetics RGB \
    --arch resnet50 --num_segments 5 \
    --gd 20 --lr 0.02 --wd 1e-4 --lr_steps 20 40 --epochs 50 \
    --batch-size 128 -j 16 --dropout 0.5 --consensus_type=avg --eval-freq=1 \
    --npb \
    "$@"
