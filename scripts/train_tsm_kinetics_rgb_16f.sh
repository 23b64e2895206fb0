#!/usr/bin/env bash
# TSM ResNet-50, 16 frames, Kinetics-400, uniform sampling, from ImageNet weights.
# Published for this recipe: 72.6% (73.7% with --test_crops 10), by test_models.py kinetics --protocol efficient.
# The learning rate goes with the batch: --batch-size 256 --lr 0.04, --batch-size 64 --lr 0.01.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" main.py kinetics RGB \
    --arch resnet50 --num_segments 16 \
    --gd 20 --lr 0.02 --wd 1e-4 --lr_steps 20 40 --epochs 50 \
    --batch-size 128 -j 16 --dropout 0.5 --consensus_type=avg --eval-freq=1 \
    --shift --shift_div=8 --shift_place=blockres --npb \
    "$@"
