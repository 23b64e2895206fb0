#!/usr/bin/env bash
# Run a program as one process per GPU of this machine; PROCESSES=N: as N processes, without GPUs too.
#     scripts/torchrun_one_node.sh main.py somethingv2 RGB --shift -b 8 --scale_lr
#     PYTHON=scripts/torchrun_one_node.sh bash scripts/train_tsm_kinetics_rgb_8f.sh -b 16   # 8 GPUs x 16 clips = 128
# -b counts the clips of one process. TORCHRUN names another torchrun than the one on the path.
set -eu
# shellcheck disable=SC2086  # TORCHRUN may be several words
exec ${TORCHRUN:-torchrun} --standalone --nproc_per_node "${PROCESSES:-gpu}" "$@"
