"""What only the audit page draws."""
