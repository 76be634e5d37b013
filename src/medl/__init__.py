"""Owns nothing: Clara Train's newer module name, which scripts of old MMARs call."""
