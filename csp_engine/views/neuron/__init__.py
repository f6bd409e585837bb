"""One neuron as pages show it: its label and state, numbers, candidates, and what they rest on."""
