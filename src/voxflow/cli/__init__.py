"""Owns the commands that people type."""
