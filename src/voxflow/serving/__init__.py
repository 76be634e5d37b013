"""The HTTP service of an exported model, which trusts no client."""
