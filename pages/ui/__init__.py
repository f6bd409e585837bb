"""What the pages share: URL state, open bundles, cards, charts, problems, and the server."""
