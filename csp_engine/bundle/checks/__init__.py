"""What is checked of a bundle, and when: docs/security.md says it in a table."""
