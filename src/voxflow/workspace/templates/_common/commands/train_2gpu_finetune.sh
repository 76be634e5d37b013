#!/usr/bin/env bash
# Continue training from models/model.pt in two processes; see train_2gpu.sh and train_finetune.sh.
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
    PRETRAIN_WEIGHTS_FILE="" \
    MMAR_CKPT="$MMAR_ROOT/models/model.ckpt" \
    multi_gpu=true \
    "$@"
