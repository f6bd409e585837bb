"""What the overview says of a whole bundle: its layers, how it was made, what it left out."""
