"""A whole bundle as a static site, written in parts that are kept when the writing stops."""

from csp_engine.exports.publishing.writing import Published, publish

__all__ = ["Published", "publish"]
