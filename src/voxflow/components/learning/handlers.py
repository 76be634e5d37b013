"""The training handlers that Clara's configurations name."""

from __future__ import annotations

from voxflow.components.registry import ComponentModel, register


class Handler(ComponentModel):
    """Something that Clara's trainer told of its progress; here the training itself does the work."""


@register("handler")
class StatsHandler(Handler):
    """Asks for the training's numbers: they always go to the console, the curves' CSV, the event files and MLflow."""
