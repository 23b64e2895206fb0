#!/usr/bin/env bash
# Run a program on several machines, one process per GPU. Start it on each of them, with its own NODE_RANK from 0 on:
#     NODES=2 NODE_RANK=0 MASTER_ADDR=first-machine scripts/torchrun_nodes.sh main.py kinetics RGB --shift -b 8 --scale_lr
#     NODES=2 NODE_RANK=1 MASTER_ADDR=first-machine scripts/torchrun_nodes.sh main.py kinetics RGB --shift -b 8 --scale_lr
# All machines need the same code and data, and must reach the first one's MASTER_PORT. PROCESSES, TORCHRUN: see
# torchrun_one_node.sh.
set -eu
# shellcheck disable=SC2086  # TORCHRUN may be several words
exec ${TORCHRUN:-torchrun} --nnodes "${NODES:?set it to the number of machines}" \
    --node_rank "${NODE_RANK:?set it to the number of this machine, from 0 on}" \
    --master_addr "${MASTER_ADDR:?set it to the address of the machine with NODE_RANK 0}" \
    --master_port "${MASTER_PORT:-29500}" --nproc_per_node "${PROCESSES:-gpu}" "$@"
