"""The HTTP service: an exported model behind a socket that trusts nobody."""
