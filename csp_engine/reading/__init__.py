"""Tables and lists that people hand over, in whatever form they have them."""
