"""The commands that people type: ``voxflow`` and the names that TLT and Clara Train used."""
