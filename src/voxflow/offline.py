"""Owns one promise: no library that Voxflow uses phones home unless the user asks for it."""

import os

# Environment variables, as each project documents them, that turn usage statistics and update checks off.
QUIET = {
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "LIGHTNING_DISABLE_VERSION_CHECK": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def silence_telemetry() -> None:
    """Set every opt-out variable that the user has not set, for this process and its children."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
