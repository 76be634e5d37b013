"""Losses, as Clara 3 names them."""
