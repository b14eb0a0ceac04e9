"""`jaxact.probe` and `jaxact.swap` on the models of tests/user_models.py, of four frameworks."""

import contextlib
import functools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn, nnx
from sklearn.datasets import load_digits

import jaxact
import jaxact.memory
from tests.support import user_models
from tests.support.samples import normal

X = normal(1, (16, 6))
IMAGES = jnp.asarray(load_digits().images[:8, ..., None] / 16, jnp.float32)
TOKENS = jnp.asarray(np.random.default_rng(2).integers(0, 11, (3, 5), np.int32))
#: What is random compiles faster with this generator.
KEYS = {name: jax.random.key(i, impl="rbg") for i, name in enumerate(("params", "dropout"))}


@pytest.fixture(autouse=True)
def users_promotion(strict_promotion):
    """Users, and their frameworks, let JAX promote dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def found(report):
    """(function, path) of each site; for one in a scan, (function, path, step)."""
    return [(site.function, site.path, *site.iteration) for site in report.sites]


def assert_identical(a, b):
    """Two trees are equal, bit for bit, PRNG keys included."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


def assert_same_state(model, other):
    """Two NNX models are equal: attributes, parameters, statistics, counts, keys."""
    assert nnx.graphdef(model) == nnx.graphdef(other)
    assert_identical(nnx.to_pure_dict(nnx.state(model)), nnx.to_pure_dict(nnx.state(other)))


def slope_of(activation):
    return lambda z: jax.vmap(jax.grad(activation))(z.ravel()).reshape(z.shape)


def assert_statistics(site, z, activation):
    """A site's figures are those of the pre-activations z, computed directly."""
    slope = slope_of(activation)(z).reshape(-1, z.shape[-1])
    z = np.asarray(z, np.float64).reshape(slope.shape)
    assert site.shape[-1] == z.shape[-1] and np.prod(site.shape) == z.size
    np.testing.assert_array_equal(site.count, len(z))
    np.testing.assert_array_equal(site.dead, (slope == 0).all(0))
    np.testing.assert_allclose(site.active, (slope != 0).mean(0), rtol=1e-6)
    np.testing.assert_allclose(site.saturated, (abs(slope) < 1e-3).mean(0), rtol=1e-6)
    np.testing.assert_allclose(site.mean, z.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(site.second_moment, (z * z).mean(0), rtol=1e-5)


def cases(names, *slow):
    """For ``parametrize``; those of the second kind are slow, and others show the same."""
    return [pytest.param(n, marks=pytest.mark.slow if n in slow else ()) for n in names]


class Tap:
    """An activation that keeps what it is called on, to be returned from the same trace."""

    def __init__(self, activation):
        self.activation, self.seen = activation, []

    def __call__(self, x):
        self.seen.append(x)
        return self.activation(x)

    def take(self):
        seen, self.seen = self.seen, []
        return seen


# ------------------------------------------------------------------------------------------------
# NNX: what is found; values; the state that a call leaves.


def rngs():
    return nnx.Rngs(KEYS["params"])


def mlp(activation=nnx.relu):
    return user_models.NnxMLP((6, 5, 4, 3), activation, rngs=rngs())


def cnn(activation=nnx.relu):
    return user_models.NnxCNN(activation, rngs=rngs())


def resnet(activation=nnx.relu, **kwargs):
    return user_models.NnxResNet(activation=activation, **kwargs, rngs=rngs())


def transformer(activation=nnx.gelu):
    return user_models.NnxTransformer(activation=activation, rngs=rngs())


def scanned(activation=nnx.gelu):
    return user_models.NnxScanned(activation=activation, rngs=rngs())


RESNET = [
    ("relu", "NnxResNet"),
    *[("relu", f"NnxResNet/blocks/{i}") for i in (0, 0, 1, 1)],
]
#: Of each model: how to make it, its argument, and (function, path) of its activations.
NNX = {
    "MLP": (mlp, X, [("relu", "NnxMLP")] * 2),
    "CNN": (cnn, IMAGES, [("relu", "NnxCNN")] * 3),
    "ResNet": (resnet, IMAGES, RESNET),
    "ResNet with remat": (functools.partial(resnet, remat=True), IMAGES, RESNET),
    "transformer": (
        transformer, TOKENS, [("gelu", f"NnxTransformer/blocks/{i}") for i in range(2)],
    ),
    "scanned transformer": (
        scanned, TOKENS, [("gelu", "NnxScanned/blocks", i) for i in range(3)],
    ),
    "shared submodules": (
        lambda: user_models.NnxShared(rngs=rngs()), X,
        [("relu", "NnxShared/first")] * 2 + [("tanh", "NnxShared/last")] * 2,
    ),
    "Sequential": (
        lambda: user_models.nnx_sequential(rngs()), X,
        [
            ("relu", "Sequential"),
            ("leaky_relu", "Sequential"),
            ("leaky_relu", "Sequential/layers/5"),
            ("sigmoid", "Sequential"),
        ],
    ),
}  # fmt: skip


@nnx.jit
def plain_call(model, x):
    return model(x)


@nnx.jit
def probed_call(model, x):
    return jaxact.probe(model)(x)


@pytest.mark.parametrize("case", NNX)
def test_nnx_in_training(case):
    make, x, expected = NNX[case]
    model, probed = make(), make()
    model.train()
    probed.train()
    before = nnx.to_pure_dict(nnx.state(probed, nnx.Not(nnx.Param)))
    for _ in range(2):
        out, report = probed_call(probed, x)
        assert_identical(plain_call(model, x), out)
        assert found(report) == expected
    assert_same_state(model, probed)
    # BatchNorm's statistics and the dropout's counts have moved on.
    after = nnx.to_pure_dict(nnx.state(probed, nnx.Not(nnx.Param)))
    changed = [
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
        if not jnp.issubdtype(a.dtype, jax.dtypes.prng_key)
    ]
    assert any(changed) == ("ResNet" in case or "transformer" in case)


@pytest.mark.parametrize("case", ["ResNet", "transformer"])
def test_nnx_in_evaluation_closed_over_by_jit(case):
    make, x, expected = NNX[case]
    model = make()
    model.eval()
    before = nnx.clone(model)
    out, report = jax.jit(lambda x: jaxact.probe(model)(x))(x)
    assert_identical(jax.jit(lambda x: model(x))(x), out)
    assert found(report) == expected
    assert_same_state(before, model)


def test_nnx_without_jit():
    model, probed = mlp(), mlp()
    out, report = jaxact.probe(probed)(X)
    np.testing.assert_allclose(out, model(X), rtol=1e-6, atol=1e-6)
    assert found(report) == NNX["MLP"][2]
    assert_same_state(model, probed)


def test_nnx_methods_and_functions_of_modules():
    model = mlp()
    layers = [("relu", "NnxMLP")] * 2
    hidden = nnx.jit(lambda m, x: m.encode(x))(model, X)
    for call in (
        lambda m, x: jaxact.probe(m.encode)(x),
        lambda m, x: jaxact.probe(lambda m, x: m.encode(x))(m, x),
        lambda m, x: jaxact.probe(lambda x, *, model: model.encode(x))(x, model=m),
    ):
        out, report = nnx.jit(call)(model, X)
        assert_identical(hidden, out)
        assert found(report) == layers

    def both(models, x):
        return models["a"](x) + nnx.silu(models["b"](x))

    models = {"a": model, "b": mlp(nnx.tanh)}
    out, report = nnx.jit(lambda m, x: jaxact.probe(both)(m, x))(models, X)
    assert_identical(nnx.jit(both)(models, X), out)
    own = ("silu", line('models["a"](x) + nnx.silu', __file__))
    assert found(report) == [*layers, *[("tanh", "NnxMLP")] * 2, own]


@pytest.mark.parametrize("case", cases(["ResNet", "scanned transformer"], "scanned transformer"))
def test_nnx_training_steps(case):
    """A probed step trains like a plain one."""
    make, x, expected = NNX[case]

    def step(model, optimizer, x, probe):
        def loss(model, x):
            out, report = jaxact.probe(model)(x) if probe else (model(x), None)
            return (out**2).mean(), report

        (value, report), grads = nnx.value_and_grad(loss, has_aux=True)(model, x)
        optimizer.update(model, grads)
        return value, report

    jitted = nnx.jit(step, static_argnames="probe")
    trained = []
    for probe in (False, True):
        model = make()
        model.train()
        optimizer = nnx.Optimizer(model, optax.adam(0.01), wrt=nnx.Param)
        values, reports = [], []
        for _ in range(3):
            value, report = jitted(model, optimizer, x, probe=probe)
            values.append(value)
            reports.append(report)
        trained.append((model, optimizer, values))
    (model, optimizer, values), (model2, optimizer2, values2) = trained
    assert_identical(values, values2)
    assert_same_state(model, model2)
    assert_identical(*(nnx.to_pure_dict(nnx.state(o)) for o in (optimizer, optimizer2)))
    assert len({float(v) for v in values}) == 3
    assert found(functools.reduce(lambda a, b: a.merge(b), reports)) == expected


@pytest.mark.filterwarnings("ignore:Using 'Module.sow:DeprecationWarning")
def test_nnx_sown_intermediates():
    def sown():
        return user_models.NnxSown(rngs=rngs())

    model, probed = sown(), sown()
    for _ in range(2):
        out, report = jaxact.probe(probed)(X)
        np.testing.assert_allclose(out, model(X), rtol=1e-6, atol=1e-6)
        assert found(report) == [("silu", "NnxSown")]
    assert nnx.graphdef(model) == nnx.graphdef(probed)
    assert probed.calls[...] == 2
    for name in ("pre", "post"):
        sown_values = getattr(probed, name).get_value()
        assert len(sown_values) == 2
        for a, b in zip(getattr(model, name).get_value(), sown_values, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)

    # Around the probe and inside it.
    model, around, inside = sown(), sown(), sown()
    expected = nnx.capture(model, nnx.Intermediate)(X)
    got = nnx.capture(lambda m, x: jaxact.probe(m)(x)[0], nnx.Intermediate)(around, X)
    got2, _ = jaxact.probe(lambda m, x: nnx.capture(m, nnx.Intermediate)(x))(inside, X)
    for other in (got, got2):
        assert jax.tree.structure(expected) == jax.tree.structure(other)
        for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)


# ------------------------------------------------------------------------------------------------
# Functions: Linen, Equinox, Haiku, plain JAX.


def line(text: str, file: str = user_models.__file__) -> str:
    """Where some code is, as the path of a site says it."""
    (number,) = [
        i for i, row in enumerate(Path(file).read_text().splitlines(), 1)
        if text in row and "line(" not in row
    ]  # fmt: skip
    return f"{Path(file).name}:{number}"


def drawn(f, *args):
    """Numbers where ``f(*args)`` would put initial values: those take long to compile."""
    random = np.random.default_rng(0)

    def draw(path, leaf):
        if leaf.dtype != jnp.float32:
            return jnp.zeros(leaf.shape, leaf.dtype)
        values = random.normal(0, 0.4, leaf.shape)
        return jnp.asarray(abs(values) + 0.5 if "var" in str(path[-1]) else values, jnp.float32)

    return jax.tree_util.tree_map_with_path(draw, jax.eval_shape(f, *args))


def linen(model, *args, keys=None, **kwargs):
    """(function, arguments) of a Linen model."""
    variables = drawn(lambda *args: model.init(KEYS, *args, **kwargs), *args)
    if keys is not None:
        args = (variables, keys, *args)
        return lambda v, key, *a: model.apply(v, *a, rngs={"dropout": key}), args
    if kwargs.get("train"):
        kwargs["mutable"] = ["batch_stats"]
    return lambda v, *a: model.apply(v, *a, **kwargs), (variables, *args)


def haiku(transformed, *args):
    return transformed.apply, (drawn(transformed.init, KEYS["params"], *args), *args)


def haiku_blocks():
    transformed = user_models.haiku_blocks()
    params, state = drawn(lambda key, x: transformed.init(key, x, True), KEYS["params"], X)
    return lambda p, s, x: transformed.apply(p, s, x, True), (params, state, X)


def over_batch(module, x):
    """An Equinox module, its arrays as an argument."""
    arrays, static = eqx.partition(module, eqx.is_array)
    return lambda arrays, x: jax.vmap(eqx.combine(arrays, static))(x), (arrays, x)


def plain(f, *args):
    ws = [normal(i, s) for i, s in enumerate([(6, 5), (5, 6), (6, 4)])]
    return f, ((*ws, jnp.linspace(-0.1, 0.3, 4)), X, *args)


LINEN_RESNET = [
    ("relu", "LinenResNet"),
    *[("relu", f"LinenResNet/block{i}") for i in (0, 0, 1, 1)],
]
#: Of each model: a function that makes it and its arguments, and its activations.
FUNCTIONS = {
    "Linen MLP": (
        lambda: linen(user_models.LinenMLP((5, 4, 3)), X), [("relu", "LinenMLP")] * 2,
    ),
    "Linen CNN": (
        lambda: linen(user_models.LinenCNN(), IMAGES), [("relu", "LinenCNN")] * 3,
    ),
    "Linen ResNet": (
        lambda: linen(user_models.LinenResNet(), IMAGES, train=False), LINEN_RESNET,
    ),
    "Linen ResNet in training": (
        lambda: linen(user_models.LinenResNet(remat=True), IMAGES, train=True), LINEN_RESNET,
    ),
    "Linen transformer": (
        lambda: linen(user_models.LinenTransformer(train=True), TOKENS, keys=KEYS["dropout"]),
        [("gelu", f"LinenTransformer/layer{i}") for i in range(2)],
    ),
    "Linen scanned transformer": (
        lambda: linen(
            user_models.LinenTransformer(scan=True, train=True), TOKENS, keys=KEYS["dropout"]
        ),
        [("gelu", "LinenTransformer/layers/block", i) for i in range(2)],
    ),
    "Linen scanned transformer in evaluation": (
        lambda: linen(user_models.LinenTransformer(scan=True), TOKENS),
        [("gelu", "LinenTransformer/layers/block", i) for i in range(2)],
    ),
    "Linen Sequential": (
        lambda: linen(user_models.LinenSequential(), X),
        [
            ("elu", "LinenSequential/Sequential_0"),
            ("leaky_relu", "LinenSequential/Sequential_0/PReLU_0"),
        ],
    ),
    "Equinox MLP": (
        lambda: over_batch(eqx.nn.MLP(6, 3, 5, 2, key=KEYS["params"]), X),
        [("relu", "eqx.nn.MLP")] * 2,
    ),
    "Equinox convolution": (
        lambda: over_batch(
            user_models.EqxConvolution(KEYS["params"]), IMAGES.transpose(0, 3, 1, 2)
        ),
        [("leaky_relu", "eqx.nn.PReLU"), ("elu", "eqx.nn.MLP"), ("elu", "eqx.nn.MLP")],
    ),
    "Haiku MLP": (lambda: haiku(user_models.haiku_mlp(), X), [("relu", "mlp")] * 2),
    "Haiku Sequential": (
        lambda: haiku(user_models.haiku_sequential(), X),
        [("leaky_relu", "sequential"), ("tanh", "sequential")],
    ),
    "Haiku blocks with state": (haiku_blocks, [("silu", "block0"), ("silu", "block1")]),
    "formulas": (
        lambda: plain(user_models.written_out),
        [
            ("relu", line("jnp.maximum(x @ w1, 0)")),
            ("leaky_relu", line("jnp.where(x > 0, x, 0.1 * x)")),
            ("leaky_relu", line("jnp.where(x > 0, x, slope * x)")),
        ],
    ),
    "another function called relu": (lambda: plain(user_models.with_other_relu), []),
    "maximum and clip elsewhere": (
        lambda: plain(user_models.without_activations, jnp.int32(7)), [],
    ),
    "relu with relu's derivative": (
        lambda: plain(functools.partial(user_models.with_derivatives, user_models.same_as_relu)),
        [("relu", line("activation(x @ w1) @ w2"))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", cases(FUNCTIONS, "Linen scanned transformer in evaluation"))
def test_functions(case):
    make, expected = FUNCTIONS[case]
    f, args = make()
    empty = pytest.warns(UserWarning, match="no activation was found")
    with empty if not expected else contextlib.nullcontext():
        out, report = jax.jit(jaxact.probe(f))(*args)
    assert found(report) == expected
    if case == "Haiku blocks with state":
        # What reads a result too changes how XLA rounds it: numbers of size 1, in the last bits.
        close = functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=3e-7)
        jax.tree.map(close, jax.jit(f)(*args), out)
    else:
        assert_identical(jax.jit(f)(*args), out)


def roles(report):
    return [(site.function, site.role, site.steps) for site in report.sites]


def test_a_recurrent_network():
    model = user_models.LinenRecurrent()
    f, args = linen(model, normal(3, (16, 7, 6)))
    out, report = jax.jit(jaxact.probe(f))(*args)
    cell = [("sigmoid", "gate", 7)] * 3 + [("tanh", "", 7)] * 2
    of_others = [("relu", "unused", 1), ("relu", "", 1)]
    assert sorted(roles(report)) == sorted(2 * cell + of_others)
    assert all((site.count == 16 * 7).all() for site in report.sites if site.steps == 7)
    np.testing.assert_allclose(jax.jit(f)(*args), out, rtol=1e-6)
    # Another length.
    _, longer = jax.jit(jaxact.probe(f))(args[0], normal(4, (16, 9, 6)))
    assert {site.steps for site in report.merge(longer).sites} == {1, (7, 9)}
    # The gates of a cell have lines of their own.
    gates = [site.source for site in report.sites if site.role == "gate"]
    assert len(set(gates[:3])) == 3 and all("recurrent.py" in line for line in gates)
    # 112 samples of a cell are enough, 16 of the head are not.
    advised = [site for suggestion in report.advice() for site in suggestion.sites]
    assert not any("lstm" in site or "auxiliary" in site for site in advised)


def test_nnx_containers_have_no_other_items():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.Dict(a=nnx.Linear(6, 5, rngs=rngs), b=nnx.Linear(5, 4, rngs=rngs))

        def __call__(self, x):
            for layer in self.layers.values():
                x = nnx.relu(layer(x))
            return x

    model = Model(rngs())
    _, report = jaxact.probe(model)(X)
    assert [site.path for site in report.sites] == ["Model", "Model"]
    graph, state = nnx.split(model)
    jaxact.probe(lambda state, x: nnx.merge(graph, state)(x))(state, X)


def test_a_convex_network():
    f, args = linen(user_models.LinenConvex(), X)
    _, report = jax.jit(jaxact.probe(f))(*args)
    assert roles(report) == [
        *(("relu", "", 1), ("softplus", "of parameters", 1), ("relu", "", 1)),
    ]


def test_a_soft_capped_transformer():
    f, args = linen(user_models.LinenCapped(), TOKENS)
    _, report = jax.jit(jaxact.probe(f))(*args)
    assert roles(report) == [
        *(("tanh", "soft-cap", 1), ("gelu", "gate", 1), ("tanh", "soft-cap", 1)),
    ]


def test_a_shard_mapped_training_step():
    """The counts in the step are one shard's, and with `psum` those of the whole batch."""
    model = user_models.LinenMLP((5, 4, 3))
    f, (params, x) = linen(model, X)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    def step(params, x):
        def loss(params):
            out, report = jaxact.probe(f)(params, x)
            return (out**2).mean(), report

        (_, report), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        gradient = jax.lax.pmean(gradient, "data")
        return optax.apply_updates(params, gradient), report.psum("data"), report

    spec = jax.sharding.PartitionSpec
    _, whole, shards = jax.jit(
        jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(spec(), spec("data")),
            out_specs=(spec(), spec(), spec("data")),
            check_vma=False,
        )
    )(params, x)
    _, expected = jax.jit(jaxact.probe(f))(params, x)
    for site, other in zip(whole.sites, expected.sites, strict=True):
        np.testing.assert_array_equal(site.count, 16)
        np.testing.assert_array_equal(site.active, other.active)
        np.testing.assert_allclose(site.mean, other.mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(site.active_upper, other.active_upper)
    assert jax.tree.leaves(shards)[0].shape[0] == 4 * jax.tree.leaves(whole)[0].shape[0]


def test_a_relu_with_another_derivative():
    """It has relu's values, and its own slope: 1 everywhere. No swap would reach that."""
    f, args = plain(functools.partial(user_models.with_derivatives, user_models.straight_through))
    out, report = jax.jit(jaxact.probe(f))(*args)
    assert_identical(jax.jit(f)(*args), out)
    (site,) = report.sites
    assert (site.active == 1).all() and not site.dead.any() and (site.mean < 0).any()
    with pytest.raises(ValueError, match="its derivative is defined by a custom_jvp"):
        jaxact.swap(f, {"relu": leaky})(*args)


def test_equinox_modules_themselves():
    module = eqx.nn.MLP(6, 3, 5, 2, key=KEYS["params"])
    layers = [("relu", "eqx.nn.MLP")] * 2
    assert found(jaxact.probe(module)(X[0])[1]) == layers
    out, report = eqx.filter_jit(lambda m, x: jaxact.probe(jax.vmap(m))(x))(module, X)
    assert found(report) == layers
    assert_identical(eqx.filter_jit(lambda m, x: jax.vmap(m)(x))(module, X), out)

    @eqx.filter_jit
    @functools.partial(eqx.filter_value_and_grad, has_aux=True)
    def loss(module, x):
        out, report = jaxact.probe(jax.vmap(eqx.filter_jit(module)))(x)
        return (out**2).mean(), report

    (_, report), grads = loss(module, X)
    assert found(report) == layers
    expected = eqx.filter_jit(eqx.filter_grad(lambda m, x: (jax.vmap(m)(x) ** 2).mean()))(module, X)
    assert_identical(eqx.filter(expected, eqx.is_array), eqx.filter(grads, eqx.is_array))


# ------------------------------------------------------------------------------------------------
# Statistics, against the pre-activations themselves.


@pytest.mark.parametrize("case", cases(["MLP", "CNN", "ResNet", "transformer"], "transformer"))
def test_nnx_statistics(case):
    make, x, expected = NNX[case]
    activation = getattr(nnx, expected[0][0])
    tap = Tap(activation)
    tapped, probed = make(tap), make()
    tapped.train()
    probed.train()
    seen = nnx.jit(lambda m, x: (m(x), tap.take())[1])(tapped, x)
    _, report = probed_call(probed, x)
    for site, z in zip(report.sites, seen, strict=True):
        assert site.shape == z.shape
        assert_statistics(site, z, activation)


def test_nnx_statistics_of_scanned_layers():
    model, unrolled = scanned(), scanned()
    model.eval()
    unrolled.eval()
    _, report = probed_call(model, TOKENS)
    tap = Tap(nnx.gelu)
    graph, state = nnx.split(unrolled.blocks)

    def layers(state, x):
        for i in range(3):
            block = nnx.merge(graph, jax.tree.map(lambda a, i=i: a[i], state))
            block.activation = tap
            x = block(x)
        return tap.take()

    seen = jax.jit(layers)(state, unrolled.embed(TOKENS))
    for site, z in zip(report.sites, seen, strict=True):
        assert_statistics(site, z, nnx.gelu)


def test_linen_statistics():
    for model, x in (
        (user_models.LinenMLP((5, 4, 3)), X),
        (user_models.LinenCNN(), IMAGES),
    ):
        f, (variables, _) = linen(model, x)
        capture = functools.partial(
            model.apply, capture_intermediates=True, mutable=["intermediates"]
        )
        _, kept = jax.jit(capture)(variables, x)
        seen = [
            layer["__call__"][0]
            for name, layer in kept["intermediates"].items()
            if name != "__call__"
        ]
        _, report = jax.jit(jaxact.probe(f))(variables, x)
        assert len(report.sites) == len(seen) - 1  # The last layer has no activation.
        for site, z in zip(report.sites, seen, strict=False):
            assert_statistics(site, z, nn.relu)


def test_linen_statistics_of_scanned_layers():
    model = user_models.LinenTransformer(scan=True)
    f, args = linen(model, TOKENS)
    _, report = jax.jit(jaxact.probe(f))(*args)
    params = args[0]["params"]
    x = params["Embed_0"]["embedding"][TOKENS]
    block = jax.jit(
        functools.partial(
            user_models.LinenBlock().apply, capture_intermediates=True, mutable=["intermediates"]
        )
    )
    for i, site in enumerate(report.sites):
        own = jax.tree.map(lambda a, i=i: a[i], params["layers"]["block"])
        x, kept = block({"params": own}, x)
        assert_statistics(site, kept["intermediates"]["up"]["__call__"][0], nn.gelu)
    assert len(report.sites) == 2


# ------------------------------------------------------------------------------------------------
# Swap: the model written with the replacement, bit for bit.


def leaky(x):
    return jaxact.leaky_relu(x, 0.1)


def changed(make, at, **kwargs):
    """A model with another activation in one of its blocks."""

    def written():
        model = make(**kwargs)
        model.blocks[at].activation = leaky
        return model

    return written


#: Of each: how to make the model, its argument, what to swap, and the model written with it.
SWAPS = {
    "MLP by name": (mlp, X, {"relu": jaxact.tanh}, lambda: mlp(jaxact.tanh)),
    "CNN by callable": (
        cnn, IMAGES, {lambda place: place.shape[-1] > 4: leaky}, lambda: cnn(leaky),
    ),
    "ResNet by path": (resnet, IMAGES, {"*/blocks/1/*": leaky}, changed(resnet, 1)),
    "ResNet with remat by path": (
        functools.partial(resnet, remat=True), IMAGES, {"*/blocks/1/*": leaky},
        changed(resnet, 1, remat=True),
    ),
    "transformer by index": (transformer, TOKENS, {1: leaky}, changed(transformer, 1)),
    "scanned transformer by name": (
        scanned, TOKENS, {"gelu": jaxact.gelu}, lambda: scanned(jaxact.gelu),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", cases(SWAPS, "transformer by index", "ResNet by path"))
def test_nnx_swap(case):
    make, x, replacements, make_written = SWAPS[case]
    model, written = make(), make_written()
    for each in (model, written):
        # Without dropout the program of the scan compiles in half the time.
        each.eval() if "scanned" in case else each.train()

    def loss(call):
        return nnx.jit(nnx.value_and_grad(lambda m, x: (call(m, x) ** 2).mean()))

    swapped_loss = loss(lambda m, x: jaxact.swap(m, replacements)(x))
    written_loss = loss(lambda m, x: m(x))
    for _ in range(2):
        value, grads = swapped_loss(model, x)
        expected = written_loss(written, x)
        assert_identical(expected[0], value)
        assert_identical(nnx.to_pure_dict(expected[1]), nnx.to_pure_dict(grads))
    # The state has moved on likewise.
    assert_identical(nnx.to_pure_dict(nnx.state(written)), nnx.to_pure_dict(nnx.state(model)))


def written_haiku():
    return haiku(user_models.haiku_mlp(leaky), X)


def written_eqx():
    module = eqx.nn.MLP(6, 3, 5, 2, activation=leaky, key=KEYS["params"])
    return over_batch(module, X)


#: Of each: a case of FUNCTIONS, what to swap, and the function written with it.
FUNCTION_SWAPS = {
    "Linen MLP by name": (
        "Linen MLP", {"relu": leaky}, lambda: linen(user_models.LinenMLP((5, 4, 3), leaky), X),
    ),
    "Linen CNN by path": (
        "Linen CNN", {"LinenCNN/*": leaky}, lambda: linen(user_models.LinenCNN(leaky), IMAGES),
    ),
    "Linen ResNet by path": (
        "Linen ResNet in training", {"*/block1/*": leaky},
        lambda: linen(
            user_models.LinenResNet(last_activation=leaky, remat=True), IMAGES, train=True
        ),
    ),
    "Linen scanned transformer by callable": (
        "Linen scanned transformer in evaluation",
        {lambda place: "layers" in place.path: jaxact.gelu},
        lambda: linen(user_models.LinenTransformer(scan=True, activation=jaxact.gelu), TOKENS),
    ),
    "Equinox by name": ("Equinox MLP", {"relu": leaky}, written_eqx),
    "Haiku by path": ("Haiku MLP", {"*/mlp/*": leaky}, written_haiku),
}  # fmt: skip


@pytest.mark.parametrize("case", FUNCTION_SWAPS)
def test_function_swap(case):
    name, replacements, make_written = FUNCTION_SWAPS[case]
    f, args = FUNCTIONS[name][0]()
    written, _ = make_written()

    def value_and_grad(f):
        def loss(variables, *args):
            out = f(variables, *args)
            out, rest = out if isinstance(out, tuple) else (out, None)
            return (out**2).mean(), rest

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(*args)

    assert_identical(value_and_grad(written), value_and_grad(jaxact.swap(f, replacements)))


def test_nnx_learned_slopes_train():
    model = resnet()
    model.train()
    learned = jaxact.swap(model, {"*/blocks/*": jaxact.prelu})
    slopes = learned.init(IMAGES)
    sites = ((0, 1), (0, 2), (1, 3), (1, 4))
    assert list(slopes) == [f"NnxResNet/blocks/{block}/relu:{i}" for block, i in sites]
    optimizer = optax.adam(0.01)

    @nnx.jit
    def step(model, slopes, state):
        def loss(slopes, model):
            return (jaxact.swap(model, {"*/blocks/*": jaxact.prelu})(slopes, IMAGES) ** 2).mean()

        value, (grads, _) = nnx.value_and_grad(loss, argnums=(0, 1))(slopes, model)
        updates, state = optimizer.update(grads, state)
        return value, optax.apply_updates(slopes, updates), state

    def quarter(x):
        return jaxact.leaky_relu(x, 0.25)

    written = changed(lambda: resnet(), 0)()
    for block in written.blocks:
        block.activation = quarter
    written.train()
    start, state, values = slopes, optimizer.init(slopes), []
    for _ in range(4):
        value, slopes, state = step(model, slopes, state)
        values.append(float(value))
    expected = nnx.jit(lambda m, x: (m(x) ** 2).mean())(written, IMAGES)
    np.testing.assert_allclose(values[0], expected, rtol=1e-6)
    assert values == sorted(values, reverse=True)
    for name, slope in slopes.items():
        assert (slope["alpha"] != start[name]["alpha"]).any()
    assert int(np.abs(model.norm.mean[...]).sum() > 0)


def test_linen_learned_slopes_train():
    f, (variables, *args) = linen(user_models.LinenTransformer(scan=True), TOKENS)
    learned = jaxact.swap(f, {"gelu": jaxact.prelu})
    slopes = learned.init(variables, *args)
    # The steps of the scan share them.
    assert jax.tree.map(jnp.shape, slopes) == {
        "LinenTransformer/layers/block/gelu:0": {"alpha": (32,)}
    }
    optimizer = optax.adam(0.01)

    @jax.jit
    def step(slopes, state):
        def loss(slopes):
            return (learned(slopes, variables, *args) ** 2).mean()

        value, grads = jax.value_and_grad(loss)(slopes)
        updates, state = optimizer.update(grads, state)
        return value, optax.apply_updates(slopes, updates), state

    state, values, start = optimizer.init(slopes), [], slopes
    for _ in range(4):
        value, slopes, state = step(slopes, state)
        values.append(float(value))
    assert values == sorted(values, reverse=True) and values[0] > values[-1]
    (before,), (after,) = jax.tree.leaves(start), jax.tree.leaves(slopes)
    assert (before != after).mean() > 0.8  # All but those that were positive throughout.


def test_swapped_scanned_transformer_keeps_less():
    f, args = linen(user_models.LinenTransformer(scan=True, remat=False), TOKENS)

    def kept(f):
        return sum(r.bytes for r in jaxact.memory.residuals(f, *args))

    width, layers = 32, 2
    saved = kept(f) - kept(jaxact.swap(f, {"gelu": jaxact.gelu}))
    # Several of jax.nn.gelu's intermediate results, of the size of a pre-activation each.
    assert saved >= 2 * layers * TOKENS.size * width * 4

    model = scanned()
    model.eval()
    graph, state = nnx.split(model)

    def call(state, x):
        return nnx.merge(graph, state)(x)

    args = (state, TOKENS)
    assert kept(jaxact.swap(call, {"gelu": jaxact.gelu})) < kept(call)


def test_selectors_that_match_nothing_list_the_sites():
    with pytest.raises(ValueError, match=r"0: relu in NnxResNet, float32\[8, 8, 8, 4\]"):
        jaxact.swap(resnet(), {"*/encoder/*": leaky})(IMAGES)


# ------------------------------------------------------------------------------------------------
# Paths


class Block(nnx.Module):
    def __init__(self, rngs):
        self.linear = nnx.Linear(4, 4, rngs=rngs)

    def __call__(self, x):
        return nnx.relu(self.linear(x))


class Blocks(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = Block(rngs), Block(rngs)

    def __call__(self, x):
        return nnx.gelu(self.second(self.first(x)))


def paths(fn, *args):
    return [record.path for record in jaxact.probe(fn)(*args)[1].records]


def test_modules_that_are_merged_inside_have_paths():
    model, x = Blocks(nnx.Rngs(0)), jnp.ones((2, 4))
    graph, state = nnx.split(model)
    merge, call = nnx.merge, vars(Block)["__call__"]
    expected = ["Blocks/first", "Blocks/second", "Blocks"]

    def forward(state, x):
        return nnx.merge(graph, state)(x)

    assert paths(model, x) == expected
    assert paths(forward, state, x) == expected
    assert paths(lambda state, x: jax.jit(forward)(state, x), state, x) == expected
    assert paths(jax.grad(lambda state, x: forward(state, x).sum()), state, x) == expected

    def again(model, x):
        graph, state = nnx.split(model.second)
        return nnx.merge(graph, state)(x)

    assert paths(again, model, x) == ["Blocks/second"]

    def failing(state, x):
        nnx.merge(graph, state)
        raise OSError("no data")

    with pytest.raises(OSError, match="no data"):
        paths(failing, state, x)
    # Nothing stays behind.
    assert nnx.merge is merge and vars(Block)["__call__"] is call
    assert not [name for name in vars(forward) if "jaxact" in name]
    assert vars(model).keys() == vars(Blocks(nnx.Rngs(0))).keys()


def test_linen_names_a_lifted_module_once():
    model, x = nn.RNN(nn.OptimizedLSTMCell(4)), jnp.ones((2, 3, 4))
    variables = model.init(jax.random.key(0), x)
    _, report = jaxact.probe(model.apply)(variables, x)
    assert {site.path for site in report.records} == {"RNN/cell"}
    labels = {summary.label for summary in report._summaries("")}
    assert len(labels) == len(report.sites)
    # The gates of a cell are told apart by their numbers.
    assert len({site.index for site in report.records}) == 5
