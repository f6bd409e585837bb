"""A bundle, or part of it, in forms that need no server."""
