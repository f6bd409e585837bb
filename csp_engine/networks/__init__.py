"""The network under study: loading it, its layers, what its units do, which outputs they move."""
