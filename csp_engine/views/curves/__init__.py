"""Decisions of a classifier while more and more neurons of a layer are held still."""
