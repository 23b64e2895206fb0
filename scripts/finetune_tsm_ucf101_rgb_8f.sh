#!/usr/bin/env bash
# TSM ResNet-50, 8 frames, UCF101 split 1, fine-tuned from Kinetics with frozen batch norm (so without --npb).
# Published (paper, table 1): 95.9% by --protocol accurate (the paper does not say whether on split 1 alone).
# Weights: python tools/download_weights.py TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50
# Weight decay: 5e-4 is the default of the published command line.
# Scale the learning rate with the batch size: --batch-size 128 --lr 0.002, --batch-size 32 --lr 0.0005.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh
weights=$(released TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50)
train_tsm ucf101 RGB \
    --arch resnet50 --num_segments 8 \
    --lr 0.001 --wd 5e-4 --lr_steps 10 20 --epochs 25 \
    --batch-size 64 --dropout 0.8 \
    --tune_from="$weights" \
    "$@"
