"""The logits in what a classifier returns."""
