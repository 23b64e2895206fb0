#!/usr/bin/env bash
# TSM ResNet-50, 8 frames, Jester, from ImageNet weights.
# Published (paper, table 1): 97.0% by --protocol accurate (test_models.py jester).
# No recipe was published with it; these are Something-Something's numbers.
# The learning rate goes with the batch: --batch-size 128 --lr 0.02, --batch-size 32 --lr 0.005.
set -eu
cd "$(dirname "$0")/.."
exec "${PYTHON:-python}" main.py jester RGB \
    --arch resnet50 --num_segments 8 \
    --gd 20 --lr 0.01 --wd 5e-4 --lr_steps 20 40 --epochs 50 \
    --batch-size 64 -j 16 --dropout 0.5 --consensus_type=avg --eval-freq=1 \
    --shift --shift_div=8 --shift_place=blockres --npb \
    "$@"
