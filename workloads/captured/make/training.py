# A small network trained in a loop on large arrays: 256 MiB of samples, weights, gradients.
import jax
import jax.numpy as jnp
import numpy

rng = numpy.random.default_rng(1)
samples = rng.standard_normal((1 << 15, 2048), dtype=numpy.float32)
labels = rng.standard_normal((1 << 15, 16), dtype=numpy.float32)
weights = [jnp.array(rng.standard_normal(s, dtype=numpy.float32) * 0.01) for s in ((2048, 2048), (2048, 512), (512, 16))]


def loss(weights, x, y):
    for w in weights[:-1]:
        x = jax.nn.relu(x @ w)
    return jnp.mean((x @ weights[-1] - y) ** 2)


@jax.jit
def step(weights, x, y):
    return [w - 0.01 * g for w, g in zip(weights, jax.grad(loss)(weights, x, y))]


for turn in range(1 << 20):
    at = turn * 512 % len(samples)
    weights = step(weights, samples[at : at + 512], labels[at : at + 512])
    if turn == 30:
        print("ready", flush=True)
