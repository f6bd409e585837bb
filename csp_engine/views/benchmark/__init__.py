"""Label methods on tasks made for them."""
