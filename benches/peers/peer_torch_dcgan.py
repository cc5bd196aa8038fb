"""A DCGAN for images of 28 x 28 pixels in PyTorch, channels last, with fused Adam; `compiled` as an argument compiles it."""

import sys

import torch
from torch import nn
from torch.nn.functional import softplus

from peer import serve


def generator():
    return nn.Sequential(
        nn.Linear(64, 6272),
        nn.ReLU(),
        nn.Unflatten(1, (128, 7, 7)),
        nn.ConvTranspose2d(128, 64, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 1, 4, 2, 1),
        nn.Tanh(),
    )


def discriminator():
    return nn.Sequential(
        nn.Conv2d(1, 64, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(6272, 1),
    )


def make(batch, _width, _depth):
    torch.manual_seed(0)
    last = dict(memory_format=torch.channels_last)
    g, d = generator().to(**last), discriminator().to(**last)
    adam = dict(lr=2e-4, betas=(0.9, 0.999), eps=1e-7, fused=True)
    g_adam, d_adam = torch.optim.Adam(g.parameters(), **adam), torch.optim.Adam(d.parameters(), **adam)
    sign = torch.cat([-torch.ones(batch, 1), torch.ones(batch, 1)])

    def d_loss(x, z):
        with torch.no_grad():
            fake = g(z)
        return softplus(sign * d(torch.cat([x, fake]))).mean()

    def g_loss(z):
        return softplus(-d(g(z))).mean()

    if "compiled" in sys.argv:
        d_loss, g_loss = torch.compile(d_loss, dynamic=False), torch.compile(g_loss, dynamic=False)

    def train(epochs):
        for _ in range(epochs):
            x = torch.empty(batch, 1, 28, 28).normal_(4.0, 1.25).to(**last)
            d_loss(x, torch.randn(batch, 64)).backward()
            d_adam.step()
            d_adam.zero_grad()
            d.requires_grad_(False)
            loss = g_loss(torch.randn(batch, 64))
            loss.backward()
            g_adam.step()
            g_adam.zero_grad()
            d.requires_grad_(True)
        return float(loss.detach())

    return train


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    torch.set_num_interop_threads(1)
    serve(make, steps=1)
