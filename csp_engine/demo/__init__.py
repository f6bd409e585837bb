"""Worlds with known truth, made by scripts: the demo, and a small one for tests."""
