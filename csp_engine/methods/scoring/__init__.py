"""What all label methods share: ranking, the null, and what γ changes."""
