"""Trains the networks of the preset `mnist` in PyTorch, by the recipe of its users, and writes samples for `gan evaluate`.

The recipe is that of DCGAN (Radford et al., 2016) as PyTorch's tutorial has it: binary cross-entropy on logits, Adam with
a rate of 2e-4 and beta_1 of 0.5, each step of D followed by one of G on the same latents, images in a new order each time
all have been seen. Not as there: the networks, which have no batch normalisation; PyTorch's own first weights, since from
the tutorial's, of standard deviation 0.02, these learn more slowly; and a moving average of G, as the preset has it.

Samples are float32 from 0 to 255, [count, 28, 28, 1]: FILE-g.npy of G, FILE-average.npy of its average.
"""

import argparse
import gzip
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from peer_torch import channels_last, drawing, seeing

LATENT = 64


def read_images(path):
    """The images of an IDX file, plain or gzipped, scaled to [-1, 1]: [count, 1, height, width]."""
    with open(path, "rb") as file:
        data = file.read()
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    magic, *sizes = np.frombuffer(data, ">u4", 4).tolist()
    if magic != 0x803:
        sys.exit(f"{path}: expected IDX images, which start with 0x803, found {magic:#x}")
    pixels = np.frombuffer(data, np.uint8, offset=16).reshape(sizes)
    return torch.from_numpy(pixels.astype(np.float32) / 127.5 - 1).unsqueeze(1)


def batches(images, size):
    """Batches without end, of all images in a new order each time."""
    while True:
        yield from (images[rows] for rows in torch.randperm(len(images)).split(size) if len(rows) == size)


def dcgan():
    """G and D of the preset."""
    g = nn.Sequential(nn.Linear(LATENT, 64), nn.Tanh(), *drawing())
    d = nn.Sequential(*seeing(), nn.Linear(6272, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1))
    return channels_last(g, d)


def cross_entropy(logits, target):
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def train(images, batch, seen, decay):
    """G and its moving average, after D has seen so many real images."""
    g, d = dcgan()
    average = AveragedModel(g, multi_avg_fn=get_ema_multi_avg_fn(decay))
    g_adam, d_adam = (torch.optim.Adam(n.parameters(), lr=2e-4, betas=(0.5, 0.999)) for n in (g, d))
    begun = time.perf_counter()
    for step, real in zip(range(1, seen // batch + 1), batches(images, batch)):
        fake = g(torch.randn(batch, LATENT))
        d_adam.zero_grad()
        of_d = cross_entropy(d(real), 1.0) + cross_entropy(d(fake.detach()), 0.0)
        of_d.backward()
        d_adam.step()
        g_adam.zero_grad()
        of_g = cross_entropy(d(fake), 1.0)
        of_g.backward()
        g_adam.step()
        average.update_parameters(g)
        if step % 500 == 0 or step == seen // batch:
            losses = f"D loss {of_d.item():.3f}  G loss {of_g.item():.3f}"
            print(f"step {step}  {losses}  {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    return g, average


@torch.no_grad()
def samples(network, count):
    made = torch.cat([network(torch.randn(len(part), LATENT)) for part in torch.empty(count, 0).split(500)])
    return ((made + 1) * 127.5).permute(0, 2, 3, 1).contiguous().numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="IDX file of 28 x 28 pixels, plain or gzipped")
    parser.add_argument("out", metavar="FILE", help="what the names of the files written start with")
    parser.add_argument("--seen", type=int, default=192_000, help="real images that D sees [default: the preset's]")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--decay", type=float, default=0.999, help="of the moving average")
    parser.add_argument("--count", type=int, default=10_000, help="samples of each network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    networks = train(read_images(a.images), a.batch, a.seen, a.decay)
    for name, network in zip(("g", "average"), networks):
        np.save(f"{a.out}-{name}.npy", samples(network, a.count))


if __name__ == "__main__":
    main()
