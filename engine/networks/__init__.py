"""One file per architecture; every network keeps the key names of its public checkpoints."""
