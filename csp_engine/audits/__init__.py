"""What can be said of a neuron without naming it: how coherent it is, what it stands for."""
