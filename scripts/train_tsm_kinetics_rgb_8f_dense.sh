#!/usr/bin/env bash
# TSM ResNet-50, 8 of 64 neighbouring frames (dense sampling), Kinetics-400, from ImageNet weights, 100 epochs.
# Published: 74.1% by test_models.py kinetics --protocol kinetics-dense. The released file's name gives epochs and
# sampling; the learning rate is the uniform recipe's, with its steps stretched to 100 epochs.
# Scale the learning rate with the batch size: --batch-size 256 --lr 0.04, --batch-size 64 --lr 0.01.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh
train_tsm kinetics RGB \
    --arch resnet50 --num_segments 8 --dense_sample \
    --lr 0.02 --wd 1e-4 --lr_steps 40 80 --epochs 100 \
    --batch-size 128 --dropout 0.5 --npb \
    "$@"
