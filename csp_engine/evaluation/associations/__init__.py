"""Which units go with which columns of the probe set, how surely, and what else could be why."""
