"""Clara Train's older module name, which the scripts of old MMARs call; the programs are in voxflow.cli.apps."""
