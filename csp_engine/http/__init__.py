"""Data over HTTP for those who draw it: Starlette alone, no page."""
