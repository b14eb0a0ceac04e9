"""Models as users of Flax, Equinox, Haiku and JAX write them; jaxact is not known here."""

import functools
import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import linen as nn, nnx

with warnings.catch_warnings():
    # Haiku 0.0.17 reads a name that JAX 0.9 deprecates; it works.
    warnings.simplefilter("ignore", DeprecationWarning)
    import haiku as hk

Activation = Callable[[jax.Array], jax.Array]

# ------------------------------------------------------------------------------------------------
# Flax NNX


class NnxMLP(nnx.Module):
    def __init__(self, widths: Sequence[int], activation: Activation = nnx.relu, *, rngs: nnx.Rngs):
        self.hidden = nnx.List(
            [nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(widths[:-1])]
        )
        self.head = nnx.Linear(widths[-2], widths[-1], rngs=rngs)
        self.activation = activation

    def encode(self, x):
        for layer in self.hidden:
            x = self.activation(layer(x))
        return x

    def __call__(self, x):
        return self.head(self.encode(x))


class NnxCNN(nnx.Module):
    """For digits images, (batch, 8, 8, 1)."""

    def __init__(self, activation: Activation = nnx.relu, *, rngs: nnx.Rngs):
        self.conv1 = nnx.Conv(1, 8, kernel_size=(3, 3), rngs=rngs)
        self.conv2 = nnx.Conv(8, 12, kernel_size=(3, 3), rngs=rngs)
        self.linear1 = nnx.Linear(2 * 2 * 12, 16, rngs=rngs)
        self.linear2 = nnx.Linear(16, 10, rngs=rngs)
        self.activation = activation

    def __call__(self, x):
        x = nnx.avg_pool(self.activation(self.conv1(x)), (2, 2), strides=(2, 2))
        x = nnx.max_pool(self.activation(self.conv2(x)), (2, 2), strides=(2, 2))
        x = self.activation(self.linear1(x.reshape(x.shape[0], -1)))
        return self.linear2(x)


class NnxResidual(nnx.Module):
    def __init__(self, width: int, activation: Activation, *, rngs: nnx.Rngs):
        conv = functools.partial(nnx.Conv, kernel_size=(3, 3), use_bias=False, rngs=rngs)
        self.conv1, self.conv2 = conv(width, width), conv(width, width)
        self.norm1, self.norm2 = nnx.BatchNorm(width, rngs=rngs), nnx.BatchNorm(width, rngs=rngs)
        self.activation = activation

    def __call__(self, x):
        y = self.activation(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return self.activation(x + y)


class NnxResNet(nnx.Module):
    def __init__(
        self,
        width: int = 4,
        depth: int = 2,
        *,
        activation: Activation = nnx.relu,
        remat: bool = False,
        rngs: nnx.Rngs,
    ):
        self.stem = nnx.Conv(1, width, kernel_size=(3, 3), use_bias=False, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.blocks = nnx.List([NnxResidual(width, activation, rngs=rngs) for _ in range(depth)])
        self.head = nnx.Linear(width, 10, rngs=rngs)
        self.activation = activation
        self.remat = remat

    def __call__(self, x):
        x = self.activation(self.norm(self.stem(x)))
        for block in self.blocks:
            x = nnx.remat(lambda block, x: block(x))(block, x) if self.remat else block(x)
        return self.head(x.mean((1, 2)))


class NnxBlock(nnx.Module):
    def __init__(
        self, width: int, activation: Activation = nnx.gelu, *, rate: float = 0.1, rngs: nnx.Rngs
    ):
        self.norm1, self.norm2 = nnx.LayerNorm(width, rngs=rngs), nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            num_heads=2, in_features=width, dropout_rate=rate, decode=False, rngs=rngs
        )
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)
        self.dropout = nnx.Dropout(rate, rngs=rngs)
        self.activation = activation

    def __call__(self, x):
        x = x + self.dropout(self.attention(self.norm1(x)))
        y = self.down(self.activation(self.up(self.norm2(x))))
        return x + self.dropout(y)


class NnxTransformer(nnx.Module):
    """For tokens, (batch, length)."""

    def __init__(
        self,
        width: int = 8,
        depth: int = 2,
        vocabulary: int = 11,
        *,
        activation: Activation = nnx.gelu,
        rngs: nnx.Rngs,
    ):
        self.embed = nnx.Embed(vocabulary, width, rngs=rngs)
        self.blocks = nnx.List([NnxBlock(width, activation, rngs=rngs) for _ in range(depth)])
        self.norm = nnx.RMSNorm(width, rngs=rngs)

    def __call__(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.embed.attend(self.norm(x))


class NnxScanned(nnx.Module):
    """The same, with layers made by vmap and run by scan."""

    def __init__(
        self,
        width: int = 8,
        depth: int = 3,
        vocabulary: int = 11,
        *,
        activation: Activation = nnx.gelu,
        rngs: nnx.Rngs,
    ):
        @nnx.split_rngs(splits=depth)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def create(rngs):
            return NnxBlock(width, activation, rngs=rngs)

        self.embed = nnx.Embed(vocabulary, width, rngs=rngs)
        self.blocks = create(rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)

    def __call__(self, tokens):
        @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
        def layers(block, x):
            return block(x)

        return self.embed.attend(self.norm(layers(self.blocks, self.embed(tokens))))


class NnxShared(nnx.Module):
    """One submodule at two places, and one called twice."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.first = NnxMLP((6, 5, 6), rngs=rngs)
        self.second = self.first
        self.last = NnxMLP((6, 7, 6), nnx.tanh, rngs=rngs)

    def __call__(self, x):
        return self.last(self.last(self.second(self.first(x))))


class NnxSown(nnx.Module):
    """Leaves what it has computed in itself."""

    def __init__(self, *, rngs: nnx.Rngs):
        self.encoder = nnx.Linear(6, 5, rngs=rngs)
        self.decoder = nnx.Linear(5, 6, rngs=rngs)
        self.calls = nnx.BatchStat(jnp.zeros((), jnp.int32))

    def __call__(self, x):
        z = self.encoder(x)
        self.sow(nnx.Intermediate, "pre", z)
        h = nnx.silu(z)
        self.sow(nnx.Intermediate, "post", h)
        self.calls[...] += 1
        return self.decoder(h)


def leaky(x):
    return nnx.leaky_relu(x, negative_slope=0.2)


def nnx_sequential(rngs: nnx.Rngs) -> nnx.Module:
    return nnx.Sequential(
        nnx.Linear(6, 5, rngs=rngs),
        nnx.relu,
        nnx.LayerNorm(5, rngs=rngs),
        nnx.Linear(5, 4, rngs=rngs),
        leaky,
        nnx.PReLU(0.3),
        nnx.Linear(4, 3, rngs=rngs),
        nnx.sigmoid,
    )


# ------------------------------------------------------------------------------------------------
# Flax Linen


class LinenMLP(nn.Module):
    widths: Sequence[int]
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, x):
        for width in self.widths[:-1]:
            x = self.activation(nn.Dense(width)(x))
        return nn.Dense(self.widths[-1])(x)


class LinenCNN(nn.Module):
    activation: Activation = nn.relu

    @nn.compact
    def __call__(self, x):
        x = self.activation(nn.Conv(8, (3, 3))(x))
        x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        x = self.activation(nn.Conv(12, (3, 3))(x))
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = self.activation(nn.Dense(16)(x.reshape(x.shape[0], -1)))
        return nn.Dense(10)(x)


class LinenResidual(nn.Module):
    width: int
    activation: Activation
    train: bool

    @nn.compact
    def __call__(self, x):
        norm = functools.partial(nn.BatchNorm, use_running_average=not self.train)
        y = nn.Conv(self.width, (3, 3), use_bias=False)(x)
        y = self.activation(norm()(y))
        y = nn.Conv(self.width, (3, 3), use_bias=False)(y)
        return self.activation(x + norm()(y))


class LinenResNet(nn.Module):
    width: int = 4
    depth: int = 2
    activation: Activation = nn.relu
    last_activation: Activation | None = None
    remat: bool = False

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Conv(self.width, (3, 3), use_bias=False, name="stem")(x)
        x = self.activation(nn.BatchNorm(use_running_average=not train)(x))
        block = nn.remat(LinenResidual) if self.remat else LinenResidual
        for i in range(self.depth):
            last = i == self.depth - 1 and self.last_activation
            x = block(self.width, last or self.activation, train, name=f"block{i}")(x)
        return nn.Dense(10)(x.mean((1, 2)))


class LinenBlock(nn.Module):
    activation: Activation = nn.gelu
    train: bool = False

    @nn.compact
    def __call__(self, x):
        width, still = x.shape[-1], not self.train
        y = nn.MultiHeadDotProductAttention(2, dropout_rate=0.1, deterministic=still)(
            nn.LayerNorm()(x)
        )
        x = x + nn.Dropout(0.1, deterministic=still)(y)
        y = self.activation(nn.Dense(4 * width, name="up")(nn.LayerNorm()(x)))
        y = nn.Dense(width, name="down")(y)
        return x + nn.Dropout(0.1, deterministic=still)(y)


class LinenStep(nn.Module):
    """A block as nn.scan wants it."""

    activation: Activation
    train: bool

    @nn.compact
    def __call__(self, x, _):
        return LinenBlock(self.activation, self.train, name="block")(x), None


class LinenTransformer(nn.Module):
    width: int = 8
    depth: int = 2
    vocabulary: int = 11
    activation: Activation = nn.gelu
    scan: bool = False
    remat: bool = True
    train: bool = False

    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(self.vocabulary, self.width)
        x = embed(tokens)
        if self.scan:
            layers = nn.scan(
                nn.remat(LinenStep, prevent_cse=False) if self.remat else LinenStep,
                variable_axes={"params": 0},
                split_rngs={"params": True, "dropout": True},
                length=self.depth,
            )
            x, _ = layers(self.activation, self.train, name="layers")(x, None)
        else:
            for i in range(self.depth):
                x = LinenBlock(self.activation, self.train, name=f"layer{i}")(x)
        return embed.attend(nn.RMSNorm()(x))


class LinenRecurrent(nn.Module):
    """Two LSTMs and a head that nothing uses."""

    width: int = 5

    @nn.compact
    def __call__(self, xs):
        for i in range(2):
            xs = nn.RNN(nn.OptimizedLSTMCell(self.width), name=f"lstm{i}")(xs)
        nn.relu(nn.Dense(3, name="auxiliary")(xs))
        return nn.Dense(3, name="head")(nn.relu(nn.Dense(4, name="hidden")(xs[:, -1])))


class LinenConvex(nn.Module):
    """A net that is convex in its input: the weights behind the first layer are not negative."""

    widths: tuple[int, ...] = (5, 4)

    @nn.compact
    def __call__(self, x):
        z = nn.relu(nn.Dense(self.widths[0])(x))
        for i, width in enumerate(self.widths[1:]):
            w = self.param(f"w{i}", nn.initializers.normal(), (z.shape[-1], width))
            z = nn.relu(z @ nn.softplus(w) + nn.Dense(width, name=f"skip{i}")(x))
        return z.sum(-1)


class LinenCapped(nn.Module):
    """A block as Gemma 2 has them: capped attention scores and logits, a gated feed-forward."""

    width: int = 8
    vocabulary: int = 11

    @nn.compact
    def __call__(self, tokens):
        embed = nn.Embed(self.vocabulary, self.width)
        x = embed(tokens)
        q, k, v = jnp.split(nn.Dense(3 * self.width, name="qkv")(nn.RMSNorm()(x)), 3, axis=-1)
        scores = jnp.einsum("bqd,bkd->bqk", q, k) / jnp.sqrt(self.width)
        scores = 50.0 * nn.tanh(scores / 50.0)
        x = x + nn.softmax(scores) @ v
        y = nn.RMSNorm()(x)
        gate, up = (nn.Dense(16, use_bias=False, name=name)(y) for name in ("gate", "up"))
        x = x + nn.Dense(self.width, name="down")(nn.gelu(gate) * up)
        return 30.0 * nn.tanh(embed.attend(x) / 30.0)


class LinenSequential(nn.Module):
    @nn.compact
    def __call__(self, x):
        layers = [nn.Dense(5), nn.elu, nn.Dense(4), nn.PReLU(), nn.Dense(3), nn.softmax]
        return nn.Sequential(layers)(x)


# ------------------------------------------------------------------------------------------------
# Equinox


class EqxConvolution(eqx.Module):
    conv: eqx.nn.Conv2d
    prelu: eqx.nn.PReLU
    mlp: eqx.nn.MLP

    def __init__(self, key: jax.Array):
        k1, k2 = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(1, 4, kernel_size=3, key=k1)
        self.prelu = eqx.nn.PReLU(0.1)
        self.mlp = eqx.nn.MLP(4, 3, 8, 2, activation=jax.nn.elu, key=k2)

    def __call__(self, image):
        """One image, (1, height, width)."""
        x = self.prelu(self.conv(image))
        return self.mlp(x.mean((1, 2)))


# ------------------------------------------------------------------------------------------------
# Haiku


def haiku_mlp(activation: Activation = jax.nn.relu) -> Any:
    return hk.without_apply_rng(
        hk.transform(lambda x: hk.nets.MLP([7, 5, 3], activation=activation)(x))
    )


def haiku_sequential() -> Any:
    def forward(x):
        net = hk.Sequential([hk.Linear(7), jax.nn.leaky_relu, hk.Linear(5), jnp.tanh, hk.Linear(2)])
        return net(x)

    return hk.without_apply_rng(hk.transform(forward))


class HaikuBlock(hk.Module):
    def __init__(self, width: int, name: str | None = None):
        super().__init__(name=name)
        self.width = width

    def __call__(self, x, is_training):
        y = hk.Linear(self.width)(x)
        y = hk.BatchNorm(create_scale=True, create_offset=True, decay_rate=0.9)(y, is_training)
        return x + jax.nn.silu(y)


def haiku_lstm(width: int) -> Any:
    """An LSTM over (time, batch, features)."""

    def unrolled(xs):
        core = hk.LSTM(width)
        return hk.dynamic_unroll(core, xs, core.initial_state(xs.shape[1]))[0]

    return hk.without_apply_rng(hk.transform(unrolled))


def haiku_blocks() -> Any:
    """With state."""

    def forward(x, is_training):
        for i in range(2):
            x = HaikuBlock(x.shape[-1], name=f"block{i}")(x, is_training)
        return x

    return hk.without_apply_rng(hk.transform_with_state(forward))


# ------------------------------------------------------------------------------------------------
# Plain functions


def written_out(params, x):
    """Activations as formulas."""
    w1, w2, w3, slope = params
    x = jnp.maximum(x @ w1, 0)
    x = x @ w2
    x = jnp.where(x > 0, x, 0.1 * x)
    x = x @ w3
    return jnp.where(x > 0, x, slope * x)


@jax.jit
def relu(x):
    """Not what it is called."""
    return jnp.sqrt(x * x + 1) + x


def with_other_relu(params, x):
    w1, w2, *_ = params
    return relu(relu(x @ w1) @ w2)


def without_activations(params, x, lengths):
    """Maximum, clip and where, as they stand elsewhere."""
    w1, w2, *_ = params
    x = x @ w1
    mean, square = x.mean(-1, keepdims=True), (x * x).mean(-1, keepdims=True)
    x = (x - mean) / jnp.sqrt(jnp.maximum(0.0, square - mean * mean) + 1e-5)
    start = jnp.maximum(lengths - 3, 0)
    positions = jnp.arange(x.shape[-2])
    x = jnp.where((positions >= start)[:, None], x, 0.0)
    weights = jax.nn.softmax(jnp.clip(x, -5.0, 5.0) @ w2)
    return jnp.maximum(0, weights - jnp.maximum(weights.mean(), 1e-3)) / jnp.max(weights)


@jax.custom_jvp
def straight_through(x):
    return jnp.maximum(x, 0)


@straight_through.defjvp
def _(primals, tangents):
    return straight_through(*primals), tangents[0]


@jax.custom_jvp
@jax.jit
def same_as_relu(x):
    return jnp.maximum(x, 0)


same_as_relu.defjvps(lambda g, ans, x: jax.lax.select(x > 0, g, jax.lax.full_like(g, 0)))


def with_derivatives(activation, params, x):
    w1, w2, *_ = params
    return activation(x @ w1) @ w2
