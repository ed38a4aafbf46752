"""gibench's engine beside breaching 0.1.2: the same targets, weights, gradients, labels and cores; `make bench`."""
