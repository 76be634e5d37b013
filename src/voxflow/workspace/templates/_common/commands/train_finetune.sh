#!/usr/bin/env bash
# Continue from the best model of an earlier training, models/model.pt. For another one: MMAR_CKPT=/path/to/model.pt
my_dir="$(dirname "$0")"
. "$my_dir/set_env.sh"
echo "MMAR_ROOT set to $MMAR_ROOT"

CONFIG_FILE=config/config_train.json
ENVIRONMENT_FILE=config/environment.json

python3 -u -m nvmidl.apps.train \
    -m "$MMAR_ROOT" \
    -c "$CONFIG_FILE" \
    -e "$ENVIRONMENT_FILE" \
    --write_train_stats \
    --set \
    PRETRAIN_WEIGHTS_FILE="" \
    MMAR_CKPT="$MMAR_ROOT/models/model.ckpt" \
    multi_gpu=false \
    "$@"
