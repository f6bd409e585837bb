"""What a long-running server holds: bundles that stay open, and encoders in another process."""
