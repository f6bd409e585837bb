"""Sparse autoencoders: files as libraries write them, their rules, and the codes they give."""
