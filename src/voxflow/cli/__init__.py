"""The command line: ``voxflow`` and its commands, and the programs of Clara Train and TLT 2."""
