"""The views of the browser, one per file; ``pages.ui`` holds what they share."""
