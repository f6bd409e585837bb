"""The demo's networks: made by scripts, trained on simulated photographs."""
