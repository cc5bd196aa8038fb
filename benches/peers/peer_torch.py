"""The notebook's GAN in PyTorch, eager: fused Adam, gradients of D not computed in G's steps."""

import sys

import torch
from torch import nn
from torch.nn.functional import softplus

from peer import serve


class Discriminator(nn.Sequential):
    def forward(self, x):
        return super().forward(torch.cat([x, (x - x.mean(1, keepdim=True)).square()], 1))


class Generator(nn.Sequential):
    def forward(self, z):
        return super().forward(z.reshape(-1, 1)).reshape(z.shape)


def layers(sizes, last):
    out = []
    for place, (a, b) in enumerate(zip(sizes, sizes[1:])):
        layer = nn.Linear(a, b)
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
        out.append(layer)
        if place < len(sizes) - 2:
            out.append(last if place == len(sizes) - 3 else nn.ReLU())
    return out


def make(batch, width, depth):
    torch.manual_seed(0)
    hidden = [width] * depth
    g = Generator(*layers([1, *hidden, 1], nn.Sigmoid()))
    d = Discriminator(*layers([200, *hidden, 1], nn.ReLU()))
    adam = dict(lr=2e-4, betas=(0.9, 0.999), eps=1e-7, fused=True)
    g_adam, d_adam = torch.optim.Adam(g.parameters(), **adam), torch.optim.Adam(d.parameters(), **adam)
    sign = torch.cat([-torch.ones(batch, 1), torch.ones(batch, 1)])

    def train(epochs):
        for _ in range(epochs):
            with torch.no_grad():
                x = torch.cat([torch.empty(batch, 100).normal_(4.0, 1.25), g(torch.rand(batch, 100))])
            loss = softplus(sign * d(x)).mean()
            loss.backward()
            d_adam.step()
            d_adam.zero_grad()
            d.requires_grad_(False)
            for _ in range(5):
                loss = softplus(-d(g(torch.rand(batch, 100)))).mean()
                loss.backward()
                g_adam.step()
                g_adam.zero_grad()
            d.requires_grad_(True)
        return float(loss.detach())

    return train


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    torch.set_num_interop_threads(1)
    serve(make)
