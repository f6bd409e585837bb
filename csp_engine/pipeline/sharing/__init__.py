"""What a merge has other processes compute: orders, pieces, and those who make them."""
