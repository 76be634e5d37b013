"""Switches off usage reports and update checks of all libraries that Voxflow uses, unless the user set them."""

import os
import sys

# Environment variables, as each project documents them, that turn usage statistics and update checks off. DVC's
# update check has none: `.dvc/config` turns it off, and prefect.toml what a Prefect server would send.
QUIET = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Since 1.29 the Linux wheels send model and session facts to their maker. It is read when the library loads.
    "ORT_DISABLE_TELEMETRY": "1",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}

# OpenVINO knows no variable, only a file in the home folder that all programs share. It sends on import, unless this
# package is missing; so it is made to be missing in this process.
SENDERS = ("openvino_telemetry",)


def silence_telemetry() -> None:
    """Turn usage statistics and update checks of all libraries off, unless the user has set a variable otherwise.

    Environment variables hold for this process and those that it starts. What has no variable is made to be missing in
    this process, see :data:`SENDERS`.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for module in SENDERS:
        sys.modules.setdefault(module, None)  # type: ignore[arg-type]
