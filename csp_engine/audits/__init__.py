"""What can be said of a neuron without naming it: one module for each statistic."""
