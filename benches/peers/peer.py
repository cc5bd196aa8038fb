"""What the Python peers have in common: they answer lines of work until their input ends.

A line `BATCH WIDTH DEPTH EPOCHS` is answered with the microseconds that an epoch took, the mean over so many; a GAN for
images has no width and no depth. A 0 before any work says that the first epoch, at batch 1, is done.
"""

import sys
import time


def serve(make):
    """`make(batch, width, depth)` gives a function that trains for so many epochs and returns a loss."""
    networks = {}

    def train(epochs, *shape):
        if shape not in networks:
            networks.clear()
            networks[shape] = make(*shape)
        loss = networks[shape](epochs)
        if not loss == loss:
            sys.exit(f"the loss is {loss}")

    train(1, 1, 50, 2)
    print(0, flush=True)
    for line in sys.stdin:
        batch, width, depth, epochs = map(int, line.split())
        train(epochs, batch, width, depth)  # compiled, and its buffers made, before it is timed
        start = time.perf_counter()
        train(epochs, batch, width, depth)
        print(f"{(time.perf_counter() - start) / epochs * 1e6:.3f}", flush=True)
