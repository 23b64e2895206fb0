#!/usr/bin/env bash
# The released TSM ResNet-50, 8 frames, on Kinetics-400's validation videos: center crop, 1 clip.
# Expected: Overall Prec@1 71.2% (published); 72.8% with --test_crops 10. TSN is also tested with 8 frames:
# --weights ~/.cache/tsm/TSM_kinetics_RGB_resnet50_avg_segment5_e50.pth, expected: 68.8%; 69.9% with --test_crops 10.
# Weights: python tools/download_weights.py TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh
weights=$(released TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50)
test_models kinetics \
    --weights="$weights" --test_segments=8 --test_crops=1 \
    --batch_size=64 -j 16 \
    "$@"
