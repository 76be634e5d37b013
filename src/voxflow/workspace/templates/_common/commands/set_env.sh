#!/usr/bin/env bash
# Settings for all scripts of this folder. Edit this file if Python must find modules of your own.
MMAR_ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
export MMAR_ROOT
export PYTHONPATH="$MMAR_ROOT/custom${PYTHONPATH:+:$PYTHONPATH}"

# Older train_Ngpu.sh scripts start their processes with mpirun. If there is no MPI, torchrun does the same.
if ! command -v mpirun > /dev/null; then
    mpirun() {
        local processes=1
        while [ $# -gt 0 ] && [[ "$1" != python* ]]; do
            case "$1" in
                -np | -n | --np | -c) processes="$2"; shift 2 ;;
                *) shift ;;
            esac
        done
        shift # python3
        [ "$1" = -u ] && shift
        python3 -u -m torch.distributed.run --standalone --nproc_per_node "$processes" "$@"
    }
fi
