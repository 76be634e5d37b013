#!/usr/bin/env bash
# Evaluate the exported model on labelled cases; the results are written to eval/.
my_dir="$(dirname "$0")"
. "$my_dir/set_env.sh"
echo "MMAR_ROOT set to $MMAR_ROOT"

CONFIG_FILE=config/config_validation.json
ENVIRONMENT_FILE=config/environment.json

python3 -u -m nvmidl.apps.evaluate \
    -m "$MMAR_ROOT" \
    -c "$CONFIG_FILE" \
    -e "$ENVIRONMENT_FILE" \
    --set \
    do_validation=true \
    output_infer_result=false \
    "$@"
