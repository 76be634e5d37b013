#!/usr/bin/env bash
# Train from scratch. Values given to this script replace all others: ./train.sh epochs=20 learning_rate=0.0002
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
    multi_gpu=false \
    "$@"
