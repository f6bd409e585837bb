"""Statistics that know nothing of neurons: intervals, enrichment, what chance gives."""
