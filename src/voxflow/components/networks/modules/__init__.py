"""The torch modules that MONAI has no class for; imported only when a network is built."""
