"""The notebook's GAN in PyTorch, or, with the argument `dcgan`, one for images; eager, or, with `compiled`, compiled.

As in `peer_gan.rs`: layers, parameters, losses, Adam's settings, random numbers drawn in every step, and no gradient of
D's parameters in G's steps. Not as there: where the numbers come from and the DCGAN's first weights, neither of which is
more work; that Adam's epsilon, when eager, is added to the corrected moment; and that the loss is looked at once a turn,
not checked, with D's accuracy, in every step.
"""

import sys

import torch
from torch import nn
from torch.func import functional_call, grad_and_value
from torch.nn.functional import softplus

from peer import serve

RATE, BETA_1, BETA_2, EPSILON = 2e-4, 0.9, 0.999, 1e-7


class Map(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.forward = function


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


def notebook(batch, width, depth):
    hidden = [width] * depth
    g = layers([1, *hidden, 1], nn.Sigmoid())
    g = nn.Sequential(Map(lambda z: z.reshape(-1, 1)), *g, Map(lambda y: y.reshape(batch, 100)))
    decorate = Map(lambda x: torch.cat([x, (x - x.mean(1, keepdim=True)).square()], 1))
    d = nn.Sequential(decorate, *layers([200, *hidden, 1], nn.ReLU()))
    real = lambda: torch.normal(4.0, 1.25, (batch, 100))
    return g, d, real, lambda: torch.rand(batch, 100), 5


def drawing():
    """From 64 numbers to an image of 28 x 28 pixels."""
    return (
        nn.Linear(64, 6272),
        nn.ReLU(),
        Map(lambda y: y.unflatten(1, (7, 7, 128)).permute(0, 3, 1, 2)),
        nn.ConvTranspose2d(128, 64, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 1, 4, 2, 1),
        nn.Tanh(),
    )


def seeing():
    """From such an image to 6,272 features."""
    return (
        nn.Conv2d(1, 64, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, 4, 2, 1),
        nn.LeakyReLU(0.2),
        Map(lambda y: y.permute(0, 2, 3, 1).flatten(1)),
    )


def channels_last(*networks):
    """Throughout, so that nothing has to be transposed."""
    return [network.to(memory_format=torch.channels_last) for network in networks]


def dcgan(batch, _width, _depth):
    """Images of 28 x 28 pixels."""
    g, d = channels_last(nn.Sequential(*drawing()), nn.Sequential(*seeing(), nn.Linear(6272, 1)))
    real = lambda: torch.normal(4.0, 1.25, (batch, 1, 28, 28))
    return g, d, real, lambda: torch.randn(batch, 64), 1


def d_loss(d, x):
    real, fake = d(x).chunk(2)
    return (softplus(-real).mean() + softplus(fake).mean()) / 2


def g_loss(g, d, z):
    return softplus(-d(g(z))).mean()


def eager(g, d, real, latent, g_steps):
    """Fused Adam."""
    adam = dict(lr=RATE, betas=(BETA_1, BETA_2), eps=EPSILON, fused=True)
    g_adam, d_adam = torch.optim.Adam(g.parameters(), **adam), torch.optim.Adam(d.parameters(), **adam)

    def step(optimizer, loss):
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    def epoch():
        with torch.no_grad():
            x = torch.cat([real(), g(latent())])
        step(d_adam, d_loss(d, x))
        d.requires_grad_(False)
        for _ in range(g_steps):
            loss = step(g_adam, g_loss(g, d, latent()))
        d.requires_grad_(True)
        return loss

    return epoch


class Learner:
    """A network whose parameters are arguments, and its Adam, written out, since the compiler fuses it."""

    def __init__(self, network):
        self.network, self.step = network, torch.zeros(())
        self.parameters = {name: p.detach() for name, p in network.named_parameters()}
        self.moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in self.parameters.items()}

    def at(self, parameters):
        return lambda x: functional_call(self.network, parameters, (x,))

    def learn(self, loss):
        gradients, value = grad_and_value(lambda parameters: loss(self.at(parameters)))(self.parameters)
        self.step.add_(1)
        rate = RATE * torch.sqrt(1 - BETA_2**self.step) / (1 - BETA_1**self.step)
        for name, gradient in gradients.items():
            m, v = self.moments[name]
            m.lerp_(gradient, 1 - BETA_1)
            v.lerp_(gradient * gradient, 1 - BETA_2)
            self.parameters[name].sub_(rate * m / (v.sqrt() + EPSILON))
        return value


def compiled(g, d, real, latent, g_steps):
    """An epoch as one graph, random numbers included, called from C++: five times as fast at batch 1 as
    compiled losses with the optimizer outside."""
    import torch._inductor.config

    torch._inductor.config.cpp_wrapper = True
    g, d = Learner(g), Learner(d)

    def epoch():
        x = torch.cat([real(), g.at(g.parameters)(latent())])
        of_d = d.learn(lambda network: d_loss(network, x))
        for _ in range(g_steps):
            z = latent()
            of_g = g.learn(lambda network: g_loss(network, d.at(d.parameters), z))
        return of_d + of_g

    return torch.no_grad()(torch.compile(epoch, dynamic=False, fullgraph=True))


def make(*shape):
    torch.manual_seed(0)
    networks = dcgan if "dcgan" in sys.argv else notebook
    epoch = (compiled if "compiled" in sys.argv else eager)(*networks(*shape))

    def train(epochs):
        for _ in range(epochs):
            loss = epoch()
        return float(loss)

    return train


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    torch.set_num_interop_threads(1)
    serve(make)
