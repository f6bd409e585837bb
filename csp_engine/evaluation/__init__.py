"""How well neurons fit known concepts, and how well labels and search fit the neurons."""
