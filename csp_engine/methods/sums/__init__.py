"""What Linear Explanations adds: concepts as columns of numbers, and sparse sums of them."""
