#!/usr/bin/env bash
# TSM ResNet-50 with five non-local blocks, 8 frames of 64 neighbouring ones (dense sampling), Kinetics-400, 100 epochs.
# Published: 75.6%, by test_models.py kinetics --protocol kinetics-dense. The released file tells epochs and sampling;
# the learning rate is the uniform recipe's, its steps stretched to 100 epochs.
# The learning rate goes with the batch: --batch-size 256 --lr 0.04, --batch-size 64 --lr 0.01.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" main.py kinetics RGB \
    --arch resnet50 --num_segments 8 --dense_sample --non_local \
    --gd 20 --lr 0.02 --wd 1e-4 --lr_steps 40 80 --epochs 100 \
    --batch-size 128 -j 16 --dropout 0.5 --consensus_type=avg --eval-freq=1 \
    --shift --shift_div=8 --shift_place=blockres --npb \
    "$@"
