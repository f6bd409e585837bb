"""A classifier under audit: what its influential neurons align with, and what became of them."""
