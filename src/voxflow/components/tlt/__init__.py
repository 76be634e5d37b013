"""Components under the names and with the arguments of TLT 2."""
