"""Transforms of samples: loading, intensity, geometry, crops and masks, as Clara 3 names them."""
