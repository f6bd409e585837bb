"""Whether labels say what neurons do: predictions of labels, and which figures of them to trust."""
