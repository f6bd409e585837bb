"""How well a neuron goes with what images show, or a label says: one module for each figure."""
