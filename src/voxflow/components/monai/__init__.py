"""MONAI's and torch's own classes as components, for Clara 4's configurations."""
