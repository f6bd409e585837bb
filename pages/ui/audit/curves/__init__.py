"""Ablation curves on the page Audit: what a bundle keeps, and a way to draw others."""
