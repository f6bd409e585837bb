"""Questions asked once of real or planted data; what was found is in docs and in ``results``."""
