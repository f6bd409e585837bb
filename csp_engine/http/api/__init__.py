"""The HTTP API: what the pages show, as JSON for programs."""
