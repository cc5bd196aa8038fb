"""The notebook's GAN in JAX: one jitted scan over epochs, the state donated."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp

from peer import serve

RATE, BETA_1, BETA_2, EPSILON = 2e-4, 0.9, 0.999, 1e-7


def dense(key, features, units):
    limit = (6.0 / (features + units)) ** 0.5
    return jax.random.uniform(key, (features, units), minval=-limit, maxval=limit), jnp.zeros(units)


def layers(key, sizes):
    keys = jax.random.split(key, len(sizes) - 1)
    return [dense(k, a, b) for k, a, b in zip(keys, sizes, sizes[1:])]


def generator(parameters, z):
    y = z.reshape(-1, 1)
    for w, b in parameters[:-2]:
        y = jax.nn.relu(y @ w + b)
    (w, b), (v, c) = parameters[-2:]
    return (jax.nn.sigmoid(y @ w + b) @ v + c).reshape(z.shape)


def discriminator(parameters, x):
    y = jnp.concatenate([x, jnp.square(x - x.mean(axis=1, keepdims=True))], axis=1)
    for w, b in parameters[:-1]:
        y = jax.nn.relu(y @ w + b)
    w, b = parameters[-1]
    return y @ w + b


def adam(parameters, state, gradients):
    step, m, v = state
    step = step + 1
    rate = RATE * jnp.sqrt(1 - BETA_2**step) / (1 - BETA_1**step)
    m = jax.tree.map(lambda m, g: m + (g - m) * (1 - BETA_1), m, gradients)
    v = jax.tree.map(lambda v, g: v + (g * g - v) * (1 - BETA_2), v, gradients)
    parameters = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + EPSILON), parameters, m, v)
    return parameters, (step, m, v)


def start(parameters):
    zeros = lambda: jax.tree.map(jnp.zeros_like, parameters)
    return parameters, (jnp.float32(0), zeros(), zeros())


def d_loss(d, g, real, z):
    x = jnp.concatenate([real, generator(g, z)])
    logits = discriminator(d, x)[:, 0]
    return (jax.nn.softplus(-logits[: len(real)]).sum() + jax.nn.softplus(logits[len(real) :]).sum()) / len(x)


def g_loss(g, d, z):
    return jax.nn.softplus(-discriminator(d, generator(g, z))).mean()


def make(batch, width, depth):
    def epoch(state, _):
        (g, g_state), (d, d_state), key = state
        key, *keys = jax.random.split(key, 8)
        real = 4.0 + 1.25 * jax.random.normal(keys[0], (batch, 100))
        z = jax.random.uniform(keys[1], (batch, 100))
        loss_d, gradients = jax.value_and_grad(d_loss)(d, g, real, z)
        d, d_state = adam(d, d_state, gradients)
        loss_g = 0.0
        for k in keys[2:]:
            z = jax.random.uniform(k, (batch, 100))
            loss_g, gradients = jax.value_and_grad(g_loss)(g, d, z)
            g, g_state = adam(g, g_state, gradients)
        return ((g, g_state), (d, d_state), key), (loss_d, loss_g)

    def run(state, epochs):
        return jax.lax.scan(epoch, state, length=epochs)

    key = jax.random.key(0)
    k1, k2, k3 = jax.random.split(key, 3)
    hidden = [width] * depth
    state = (start(layers(k1, [1, *hidden, 1])), start(layers(k2, [200, *hidden, 1])), k3)
    compiled = jax.jit(run, static_argnums=1, donate_argnums=0)

    def train(epochs):
        nonlocal state
        state, losses = compiled(state, epochs)
        jax.block_until_ready(state)
        return float(losses[0][-1])

    return train


if __name__ == "__main__":
    serve(make)
