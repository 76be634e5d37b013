"""The user's own classes from a workspace's ``custom/`` folder, fitted to the kinds of components."""
