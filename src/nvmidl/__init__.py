"""Owns nothing: Clara Train's older module name, which scripts of old MMARs call."""
