"""Which activation the discriminator of a DCGAN needs: ReLU, or leaky ReLU with slope 0.01 or 0.2.

    python -m benchmarks.gan          # minutes on two cores; saves results/gan.json
    python -m benchmarks.gan --quick  # seconds: it runs, its figures say nothing

Radford et al. (DCGAN, arXiv 1511.06434) advise leaky ReLU with slope 0.2 in all layers of the
discriminator, and ReLU in the generator. Here both nets have two strided convolutions, of 16 and 32
channels, and see scikit-learn's digits, 8 x 8 pixels. All seeds of an arm are trained in one vmap,
in which convolutions are slow on a CPU: kernels are written out as the dense matrices that they
stand for (`matrix`).

Images are judged in the features of a classifier of the digits: the Fréchet distance between the
generated images and the training set, beside that between the test set and the training set.
"""

import argparse
import dataclasses
import time
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from numpy.typing import ArrayLike
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import jaxact
from benchmarks import results


@dataclasses.dataclass(frozen=True)
class Problem:
    """The experiment's sizes.

    Attributes:
      seeds: of each arm; those of one number share initial weights, data and noise in all arms.
      looks: how often the nets are looked at during training.
      steps: between two looks.
      batch: real images in a step, and generated ones.
      channels: of the convolutions next to the images; twice as many in the layer behind.
      noise: the size of the generator's input.
      images: how many are generated for a look: as many as the test set has.
    """

    seeds: int = 8
    looks: int = 12
    steps: int = 100
    batch: int = 32
    channels: int = 16
    noise: int = 32
    images: int = 540


#: The negative slopes of discriminator and generator; 0 is ReLU. All arms are one program.
ARMS = {
    "relu": (0.0, 0.0),
    "leaky 0.01": (0.01, 0.0),
    "leaky 0.2": (0.2, 0.0),
    "leaky 0.2 in both": (0.2, 0.2),
}
#: Whether the discriminator has batch normalization, as in the paper, and Adam's rate in both nets.
#: The last one is too high.
SETTINGS: dict[str, Any] = {
    "batch norm": {"normalised": True, "rate": 2e-3},
    "no norm": {"normalised": False, "rate": 2e-3},
    "no norm, high rate": {"normalised": False, "rate": 3e-2},
}


# ------------------------------------------------------------------------------------------------
# The nets.


def matrix(kernel: jax.Array, size: int) -> jax.Array:
    """The matrix of a convolution with stride 2 and a padding of 1.

    ``images.reshape(n, -1) @ matrix(kernel, size)`` is the convolution of images of shape
    (n, size, size, channels), and a product with the transposed matrix the transposed convolution.

    Args:
      kernel: of shape (4, 4, channels, features).
      size: of the images.
    """
    pixel, place, tap = np.indices((size, size // 2, 4))
    meet = jnp.asarray(pixel == 2 * place + tap - 1, jnp.float32)
    taps = jnp.einsum("ipu,jqv->ijpquv", meet, meet).reshape(-1, 16)
    channels, features = kernel.shape[2:]
    dense = (taps @ kernel.reshape(16, -1)).reshape(
        size, size, size // 2, size // 2, channels, features
    )
    return dense.transpose(0, 1, 4, 2, 3, 5).reshape(size**2 * channels, -1)


def normalise(x: jax.Array, layer: dict[str, jax.Array]) -> jax.Array:
    """Batch normalization, of each channel over the batch and all places."""
    axes = tuple(range(x.ndim - 1))
    shape = (1,) * len(axes) + (-1,)
    centred = x - x.mean(axes, keepdims=True)
    scale = layer["scale"].reshape(shape) * lax.rsqrt((centred**2).mean(axes, keepdims=True) + 1e-5)
    return centred * scale + layer["offset"].reshape(shape)


def discriminate(
    params: Any, images: jax.Array, slope: jax.Array | float, *, normalised: bool
) -> jax.Array:
    """A logit for each image: is it real?"""
    first, second, last = params
    x = images.reshape(len(images), -1) @ matrix(first["kernel"], 8)
    # The first layer has no norm, as in the paper.
    x = x.reshape(len(images), 4, 4, -1) + first["offset"].reshape(1, 1, 1, -1)
    x = jaxact.leaky_relu(x, slope)
    x = x.reshape(len(images), -1) @ matrix(second["kernel"], 4)
    x = x.reshape(len(images), 2, 2, -1)
    x = normalise(x, second) if normalised else x + second["offset"].reshape(1, 1, 1, -1)
    x = jaxact.leaky_relu(x, slope).reshape(len(images), -1)
    return (x @ last["kernel"])[:, 0] + last["offset"]


def generate(params: Any, noise: jax.Array, slope: jax.Array | float) -> jax.Array:
    """An image of 8 x 8 pixels between -1 and 1 for each row."""
    first, second, last = params
    x = (noise @ first["kernel"]).reshape(len(noise), 2, 2, -1)
    x = jaxact.leaky_relu(normalise(x, first), slope).reshape(len(noise), -1)
    x = (x @ matrix(second["kernel"], 4).T).reshape(len(noise), 4, 4, -1)
    x = jaxact.leaky_relu(normalise(x, second), slope).reshape(len(noise), -1)
    x = x @ matrix(last["kernel"], 8).T
    return jnp.tanh(x.reshape(len(noise), 8, 8, 1) + last["offset"].reshape(1, 1, 1, -1))


def initial(seed: int, problem: Problem) -> tuple[Any, Any, np.ndarray]:
    """The parameters of discriminator and generator with He's variance, and noise for the looks.

    By NumPy: JAX takes longer to compile so many draws than to train a short run.
    """
    rng = np.random.default_rng(seed)
    few, many = problem.channels, 2 * problem.channels

    def layer(shape: Sequence[int], fan_in: int, channels: int) -> dict[str, np.ndarray]:
        kernel = rng.standard_normal(tuple(shape), np.float32) * np.float32((2 / fan_in) ** 0.5)
        ones = np.ones(channels, np.float32)
        return {"kernel": kernel, "scale": ones, "offset": 0 * ones}

    discriminator = [
        layer((4, 4, 1, few), 16, few),
        layer((4, 4, few, many), 16 * few, many),
        layer((4 * many, 1), 4 * many, 1),
    ]
    # A pixel of a transposed convolution sees 2 x 2 of the 4 x 4 taps.
    generator = [
        layer((problem.noise, 4 * many), problem.noise, many),
        layer((4, 4, few, many), 4 * many, few),
        layer((4, 4, 1, few), 4 * few, 1),
    ]
    noise = rng.standard_normal((problem.images, problem.noise), np.float32)
    return discriminator, generator, noise


# ------------------------------------------------------------------------------------------------
# Training.


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images between -1 and 1 of training and test set, and their labels."""
    images, labels = load_digits(return_X_y=True)
    return tuple(
        train_test_split(
            (images / 8 - 1).astype(np.float32).reshape(-1, 8, 8, 1),
            labels.astype(np.int32),
            test_size=0.3,
            random_state=0,
            stratify=labels,
        )
    )


def train(
    slopes: Sequence[tuple[float, float]],
    seeds: Sequence[int],
    problem: Problem,
    *,
    normalised: bool,
    rate: float,
) -> list[dict[str, np.ndarray]]:
    """Train nets with each of the slopes and each of the seeds.

    Args:
      slopes: of discriminator and generator.
      seeds: those of one number share initial weights, data and noise, whatever their slopes.
      problem: the sizes.
      normalised: the discriminator has batch normalization.
      rate: Adam's, in both nets; its first moment decays by 0.5 a step, as in the paper.

    Returns:
      For each of the slopes, by seed and look, the first before training: ``images``;
      ``discriminator`` and ``generator``, the percentage of dead channels in each of their two
      layers, over the training set and the generated images; ``right``, of images that the
      discriminator tells right.
    """
    real = jnp.asarray(digits()[0])
    optimizer = optax.adam(rate, b1=0.5)

    def run(slopes: jax.Array, seed: jax.Array, initial: Any) -> dict[str, jax.Array]:
        def discriminator(params: Any, images: jax.Array) -> jax.Array:
            return discriminate(params, images, slopes[0], normalised=normalised)

        def generator(params: Any, noise: jax.Array) -> jax.Array:
            return generate(params, noise, slopes[1])

        def loss_of_discriminator(params: Any, real: jax.Array, fake: jax.Array) -> jax.Array:
            # Each in a batch of its own, as is usual with batch normalization.
            return (
                jax.nn.softplus(-discriminator(params, real)).mean()
                + jax.nn.softplus(discriminator(params, fake)).mean()
            )

        def loss_of_generator(params: Any, judge: Any, noise: jax.Array) -> jax.Array:
            return jax.nn.softplus(-discriminator(judge, generator(params, noise))).mean()

        def step(number: jax.Array, carry: Any) -> Any:
            params_d, params_g, state_d, state_g, key = carry
            key, of_data, of_noise = jax.random.split(key, 3)
            chosen = jax.random.randint(of_data, (problem.batch,), 0, len(real))
            first, second = jax.random.normal(of_noise, (2, problem.batch, problem.noise))
            gradient = jax.grad(loss_of_discriminator)(
                params_d, real[chosen], generator(params_g, first)
            )
            updates, state_d = optimizer.update(gradient, state_d)
            params_d = optax.apply_updates(params_d, updates)
            gradient = jax.grad(loss_of_generator)(params_g, params_d, second)
            updates, state_g = optimizer.update(gradient, state_g)
            return params_d, optax.apply_updates(params_g, updates), state_d, state_g, key

        params_d, params_g, noise = initial
        key = jax.random.key(seed)
        start = params_d, params_g, optimizer.init(params_d), optimizer.init(params_g), key

        def until_a_look(carry: Any, steps: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
            carry = lax.fori_loop(0, steps, step, carry)
            images, of_generator = jaxact.probe(generator)(carry[1], noise)
            both = jnp.concatenate([real, images])
            if normalised:  # Each in its own batch, as in training.
                logits, report = jaxact.probe(discriminator)(carry[0], real)
                of_images, other = jaxact.probe(discriminator)(carry[0], images)
                logits = jnp.concatenate([logits, of_images])
                report = report.merge(other)
            else:
                logits, report = jaxact.probe(discriminator)(carry[0], both)
            is_real = jnp.arange(len(both)) < len(real)
            right = ((logits > 0) == is_real).astype(jnp.float32)
            return carry, {
                "images": images,
                "discriminator": percent(site.dead for site in report.records),
                # tanh at the end is an activation, too.
                "generator": percent(site.dead for site in of_generator.records[:2]),
                "right": 50 * (right[: len(real)].mean() + right[len(real) :].mean()),
            }

        steps = jnp.full(problem.looks + 1, problem.steps).at[0].set(0)
        return lax.scan(until_a_look, start, steps)[1]

    # All runs in one axis.
    runs = [(slope, seed) for slope in slopes for seed in seeds]
    initials = [initial(seed, problem) for _, seed in runs]
    of_runs = jax.tree.map(lambda *leaves: jnp.stack(leaves), *initials)
    columns = (jnp.asarray(column) for column in zip(*runs, strict=True))
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam wants it.
        values = jax.jit(jax.vmap(run))(*columns, of_runs)
    found = {name: np.asarray(value) for name, value in values.items()}
    return [
        {name: values[i * len(seeds) : (i + 1) * len(seeds)] for name, values in found.items()}
        for i in range(len(slopes))
    ]


def percent(shares: Iterable[jax.Array]) -> jax.Array:
    """The mean of each of the arrays, in percent."""
    return 100 * jnp.stack([share.astype(jnp.float32).mean() for share in shares])


# ------------------------------------------------------------------------------------------------
# The judge.


class Judge:
    """A classifier of the digits, and distances in its last hidden layer.

    Attributes:
      accuracy: on the test set, in percent.
      floor: the distance between the test set and the training set.
    """

    def __init__(self, features: int = 32, epochs: int = 40) -> None:
        train_x, test_x, train_y, test_y = map(jnp.asarray, digits())
        optimizer = optax.adamw(optax.cosine_decay_schedule(2e-3, epochs * len(train_x) // 64))
        keys = jax.random.split(jax.random.key(0), 3)
        he_normal = jaxact.initializers.he_normal()
        params = [
            {"kernel": he_normal(key, shape), "offset": jnp.zeros(shape[1])}
            for key, shape in zip(keys, [(64, 128), (128, features), (features, 10)], strict=True)
        ]

        def step(carry: Any, chosen: jax.Array) -> tuple[Any, None]:
            params, state = carry

            def loss(params: Any) -> jax.Array:
                logits = self._logits(params, self._features(params, train_x[chosen]))
                return optax.softmax_cross_entropy_with_integer_labels(
                    logits, train_y[chosen]
                ).mean()

            updates, state = optimizer.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        rng = np.random.default_rng(0)
        orders = [rng.permutation(len(train_x))[: len(train_x) // 64 * 64] for _ in range(epochs)]
        batches = jnp.asarray(np.concatenate(orders).reshape(-1, 64))
        with jax.numpy_dtype_promotion("standard"):
            (self._params, _), _ = jax.jit(lambda carry: lax.scan(step, carry, batches))(
                (params, optimizer.init(params))
            )
        self._jitted = jax.jit(self._features)
        logits = self._logits(self._params, self._jitted(self._params, test_x))
        self.accuracy = 100 * float((logits.argmax(-1) == test_y).mean())
        self._mean, self._covariance = self._moments(train_x)
        self.floor = self.distance(test_x)

    @staticmethod
    def _features(params: Any, images: jax.Array) -> jax.Array:
        x = images.reshape(len(images), -1)
        for layer in params[:-1]:
            x = jaxact.gelu(x @ layer["kernel"] + layer["offset"][None])
        return x

    @staticmethod
    def _logits(params: Any, features: jax.Array) -> jax.Array:
        return features @ params[-1]["kernel"] + params[-1]["offset"][None]

    def _moments(self, images: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        features = np.asarray(self._jitted(self._params, jnp.asarray(images)), np.float64)
        return features.mean(0), np.cov(features, rowvar=False)

    def distance(self, images: ArrayLike) -> float:
        """The Fréchet distance of the images from the training set.

        |m - n|^2 + tr(A + B - 2 (A B)^(1/2)), of the means m, n and covariances A, B of the
        features (Heusel et al., arXiv 1706.08500).
        """
        mean, covariance = self._moments(images)
        # The product of two positive matrices has the eigenvalues of one; rounding makes some < 0.
        roots = np.sqrt(np.linalg.eigvals(self._covariance @ covariance).real.clip(0))
        trace = np.trace(self._covariance) + np.trace(covariance) - 2 * roots.sum()
        return float(((mean - self._mean) ** 2).sum() + trace)


def judged(judge: Judge, found: dict[str, np.ndarray]) -> dict[str, Any]:
    """The figures of an arm without the images, but for some of the first seed, as hexadecimals."""
    images = found["images"]
    kept = np.round((images[0, -1, :24] + 1) * 127.5).astype(np.uint8)
    return {
        "distance": np.array([[judge.distance(look) for look in seed] for seed in images]),
        "images": kept.tobytes().hex(),
        **{name: values for name, values in found.items() if name != "images"},
    }


def grid(images: str, columns: int = 6) -> np.ndarray:
    """The images that `judged` has kept, side by side, with grey lines between them."""
    pixels = np.frombuffer(bytes.fromhex(images), np.uint8).reshape(-1, columns, 8, 8)
    framed = np.pad(pixels, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=128)
    return framed.transpose(0, 2, 1, 3).reshape(-1, 9 * columns)[:-1, :-1]


QUICK = Problem(seeds=2, looks=2, steps=3, batch=8, channels=2, noise=4, images=64)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few steps, to see that it runs")
    options = parser.parse_args(arguments)
    problem = QUICK if options.quick else Problem()
    console = Console()
    if not console.is_terminal:
        console.width = 160
    start = time.perf_counter()
    judge = Judge(epochs=1) if options.quick else Judge()
    found = {}
    for setting, how in SETTINGS.items():
        with console.status(setting):
            runs = train(list(ARMS.values()), range(problem.seeds), problem, **how)
        found[setting] = {
            name: judged(judge, of_arm) for name, of_arm in zip(ARMS, runs, strict=True)
        }
    seconds = time.perf_counter() - start
    table = Table(
        "setting", "discriminator", "Fréchet distance", "dead in it", "in generator", "told right",
        title=f"{problem.seeds} seeds, {problem.looks * problem.steps} steps, {seconds:.0f} s; "
        f"test set {judge.floor:.3g}, classifier {judge.accuracy:.1f}%",
    )  # fmt: skip
    for setting, arms in found.items():
        for name, figures in arms.items():
            last = [
                figures[figure][:, -1].reshape(problem.seeds, -1).mean(1)
                for figure in ("distance", "discriminator", "generator", "right")
            ]
            table.add_row(setting, name, *(str(results.interval(values)) for values in last))
    console.print(table)
    if not options.quick:
        results.save(
            "gan",
            {
                "problem": dataclasses.asdict(problem),
                "settings": SETTINGS,
                "accuracy": judge.accuracy,
                "floor": judge.floor,
                "arms": found,
            },
            command="python -m benchmarks.gan",
            seconds=seconds,
        )


if __name__ == "__main__":
    main()
