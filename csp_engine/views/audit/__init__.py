"""What an audit of a classifier shows."""
