"""Owns what people look at: the HTML report and the model card."""
