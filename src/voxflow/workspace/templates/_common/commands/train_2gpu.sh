#!/usr/bin/env bash
# Train from scratch in two processes: on two GPUs, or on the CPU if there are none.
# Scale the learning rate with the number of processes: ./train_2gpu.sh learning_rate=0.0002
my_dir="$(dirname "$0")"
. "$my_dir/set_env.sh"
echo "MMAR_ROOT set to $MMAR_ROOT"

CONFIG_FILE=config/config_train.json
ENVIRONMENT_FILE=config/environment.json

python3 -u -m torch.distributed.run --standalone --nproc_per_node 2 \
    -m nvmidl.apps.train \
    -m "$MMAR_ROOT" \
    -c "$CONFIG_FILE" \
    -e "$ENVIRONMENT_FILE" \
    --write_train_stats \
    --set \
    multi_gpu=true \
    "$@"
