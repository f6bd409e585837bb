"""What a unit does at several depths of its ranking of images, for CSP+."""
