"""A pass over the images on disk: rows that survive a killed process, and parts to be merged."""
