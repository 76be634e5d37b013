"""Owns what people look at: overlays, the HTML report, the model card."""
