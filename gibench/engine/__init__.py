"""What attacks share: the batched search over images, its objectives and priors, and label inference.

Many independent inversion problems are solved together. Each victim has its own target, labels, random numbers,
optimiser state and best iterate; the sum of the victims' objectives is differentiated once. Chunks bound the memory
and, in exact arithmetic, change nothing.
"""
