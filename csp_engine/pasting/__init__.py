"""The same photograph with and without one artefact: pasted into a user's own, or listed."""
