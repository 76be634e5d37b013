"""Networks: their typed arguments, and below ``modules`` the torch modules that MONAI has no class for."""
