"""The feed-forward blocks against the expressions that they stand for."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from jax.test_util import check_grads

import jaxact
from tests.support.compiled import no_compilation
from tests.support.samples import normal

D, HIDDEN, FEATURES = 8, 32, 5
NAMES = ["relu", "leaky_relu:0.2", "elu", "gelu", "silu", "mish", "softplus", "identity"]


def arrays(dtype=jnp.float32, batch=(3, 4)):
    """x, w_in, w_out, b_in, b_out, and gate and up weights last."""
    shapes = [(*batch, D), (D, HIDDEN), (HIDDEN, FEATURES), (HIDDEN,), (FEATURES,), (D, HIDDEN)]
    return [normal(seed, shape).astype(dtype) for seed, shape in enumerate(shapes)]


def plain_mlp(x, w_in, w_out, b_in=None, b_out=None, activation=jaxact.gelu):
    h = x @ w_in if b_in is None else x @ w_in + b_in[None, None]
    y = activation(h) @ w_out
    return y if b_out is None else y + b_out[None, None]


def plain_gated(x, w_gate, w_up, w_down, activation=jaxact.silu):
    return (activation(x @ w_gate) * (x @ w_up)) @ w_down


def assert_close_in_ulp(actual, expected, scale, ulp=2):
    """Within ``ulp`` units of the last place of ``scale``, the sum of |a b|."""
    unit = np.asarray(jnp.finfo(actual.dtype).eps, np.float64) * np.asarray(scale, np.float64)
    difference = np.abs(np.asarray(actual, np.float64) - np.asarray(expected, np.float64))
    assert (difference <= ulp * unit).all(), (difference / unit).max()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", NAMES)
def test_values(name, dtype):
    x, w_in, w_out, b_in, b_out, w_up = arrays(dtype)
    act = jaxact.get(name)
    y = jaxact.mlp(x, w_in, w_out, b_in=b_in, b_out=b_out, activation=name)
    assert y.dtype == dtype and y.shape == (3, 4, FEATURES)
    hidden = act(x @ w_in + b_in[None, None])
    scale = abs(hidden).astype(jnp.float32) @ abs(w_out).astype(jnp.float32) + 3
    assert_close_in_ulp(y, plain_mlp(x, w_in, w_out, b_in, b_out, act), scale)

    y = jaxact.gated_mlp(x, w_in, w_up, w_out, activation=name)
    assert y.dtype == dtype
    hidden = act(x @ w_in) * (x @ w_up)
    scale = abs(hidden).astype(jnp.float32) @ abs(w_out).astype(jnp.float32)
    assert_close_in_ulp(y, plain_gated(x, w_in, w_up, w_out, act), scale)


def test_products_of_16_bit_numbers_are_summed_in_float32():
    small = jnp.full((1, 4096), 2.0**-9, jnp.bfloat16)
    x = jnp.concatenate([jnp.ones((1, 1), jnp.bfloat16), small], axis=1)
    w = jnp.ones((4097, 1), jnp.bfloat16)
    assert jaxact.mlp(x, w, jnp.ones((1, 1), jnp.bfloat16), activation="relu")[0, 0] == 9
    # Alone, each term is lost beside 1.
    assert jnp.bfloat16(1) + jnp.bfloat16(2.0**-9) == 1


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_every_argument(name, biases):
    x, w_in, w_out, *b, w_up = arrays()
    b = b if biases else []
    act = jaxact.get(name)

    def block(x, w_in, w_out, b_in=None, b_out=None):
        y = jaxact.mlp(x, w_in, w_out, b_in=b_in, b_out=b_out, activation=name)
        return jnp.sin(y).sum()

    def plain(*args):
        return jnp.sin(plain_mlp(*args, activation=act)).sum()

    args = (x, w_in, w_out, *b)
    numbers = tuple(range(len(args)))
    expected = jax.jit(jax.grad(plain, numbers))(*args)
    for g, e in zip(jax.jit(jax.grad(block, numbers))(*args), expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-4, atol=1e-5 * np.abs(e).max())

    gated, expected = (
        jax.jit(jax.grad(lambda *a, f=f: jnp.sin(f(*a)).sum(), (0, 1, 2, 3)))(x, w_in, w_up, w_out)
        for f in (
            functools.partial(jaxact.gated_mlp, activation=name),
            functools.partial(plain_gated, activation=act),
        )
    )
    for g, e in zip(gated, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-4, atol=1e-5 * np.abs(e).max())


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["reverse", "both"])
def test_derivatives_numerically(mode):
    x, w_in, w_out, b_in, b_out, w_up = (a * 0.5 for a in arrays(batch=(2,)))
    with jaxact.autodiff(mode=mode), jax.enable_x64(True):
        args = [jnp.asarray(a, jnp.float64) for a in (x, w_in, w_out, b_in, b_out, w_up)]
        modes = ["fwd", "rev"] if mode == "both" else ["rev"]

        def block(x, w_in, w_out, b_in, b_out):
            return jaxact.mlp(x, w_in, w_out, b_in=b_in, b_out=b_out, activation="silu")

        check_grads(block, args[:5], order=2, modes=modes, rtol=1e-4)
        gated = functools.partial(jaxact.gated_mlp, activation="gelu")
        check_grads(gated, (args[0], args[1], args[5], args[2]), order=2, modes=modes, rtol=1e-4)


def test_16_bit_gradients():
    args = arrays(jnp.bfloat16)[:3]

    def loss(block):
        return lambda *a: block(*a).astype(jnp.float32).sum()

    actual = jax.grad(loss(jaxact.mlp), (0, 1, 2))(*args)
    expected = jax.grad(loss(plain_mlp), (0, 1, 2))(*(a.astype(jnp.float32) for a in args))
    for g, e in zip(actual, expected, strict=True):
        assert g.dtype == jnp.bfloat16
        np.testing.assert_allclose(g, e, rtol=0, atol=0.02 * np.abs(e).max())


def closing_over_traced_values(x, w_in, w_out, slopes, key):
    def activation(h):
        return jaxact.prelu(jaxact.rrelu(h, key), slopes)

    return activation, jaxact.mlp(x, w_in, w_out, activation=activation)


@pytest.mark.parametrize("mode", ["reverse", pytest.param("both", marks=pytest.mark.slow)])
def test_activations_that_close_over_traced_values(mode):
    x, w_in, w_out = arrays()[:3]
    slopes = jnp.linspace(0.1, 0.4, HIDDEN)
    keys = jax.random.split(jax.random.key(1), 3)

    def block(x, w_in, w_out, slopes, key):
        return jnp.sin(closing_over_traced_values(x, w_in, w_out, slopes, key)[1]).sum()

    def plain(x, w_in, w_out, slopes, key):
        activation, _ = closing_over_traced_values(x, w_in, w_out, slopes, key)
        return jnp.sin(plain_mlp(x, w_in, w_out, activation=activation)).sum()

    with jaxact.autodiff(mode=mode):
        args = (x, w_in, w_out, slopes)
        of_block = jax.jit(jax.grad(block, (0, 1, 2, 3)))
        of_plain = jax.jit(jax.grad(plain, (0, 1, 2, 3)))
        for key in (keys[0], jax.random.key_data(keys[1])):
            actual, expected = of_block(*args, key), of_plain(*args, key)
            for g, e in zip(actual, expected, strict=True):
                np.testing.assert_allclose(g, e, rtol=1e-4, atol=1e-4)
        over_keys = jax.jit(jax.vmap(jax.grad(block, 3), in_axes=(None,) * 4 + (0,)))(*args, keys)
        for row, key in zip(over_keys, keys, strict=True):
            np.testing.assert_allclose(row, of_plain(*args, key)[3], rtol=1e-4, atol=1e-4)


def test_under_vmap_scan_and_checkpoint():
    x, w_in, w_out, *_ = arrays()
    w_out = jnp.concatenate([w_out, w_out[:, :3]], axis=1)

    def step(block):
        def loss(x, weights):
            x, _ = lax.scan(lambda x, w: (x + 0.1 * block(x, *w), None), x, weights)
            return x.sum()

        return jax.jit(jax.grad(loss, (0, 1)))

    weights = jnp.stack([w_in, -w_in, w_in / 2]), jnp.stack([w_out, w_out, -w_out])
    expected = step(plain_mlp)(x, weights)
    for block in (jaxact.mlp, jax.checkpoint(jaxact.mlp), jax.jit(jaxact.mlp)):
        actual = step(block)(x, weights)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), actual, expected
        )
    rows = jax.vmap(jaxact.mlp, in_axes=(0, None, None))(x, w_in, w_out)
    np.testing.assert_allclose(rows, jaxact.mlp(x, w_in, w_out), rtol=1e-6, atol=1e-6)
    members = jax.vmap(jaxact.mlp, in_axes=(None, 0, 0))(x, *weights)
    np.testing.assert_allclose(members[1], jaxact.mlp(x, -w_in, w_out), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("batch", [(), (1,), (0,), (2, 3, 4)])
def test_leading_dimensions(batch):
    x, w_in, w_out, *_ = arrays(batch=batch)
    y = jaxact.mlp(x, w_in, w_out)
    assert y.shape == (*batch, FEATURES)
    np.testing.assert_allclose(y, plain_mlp(x, w_in, w_out), rtol=1e-5, atol=1e-5)
    grads = jax.jit(jax.grad(lambda *a: jaxact.gated_mlp(*a).sum(), (0, 1, 2, 3)))(
        x, w_in, w_in, w_out
    )
    assert [g.shape for g in grads] == [x.shape, w_in.shape, w_in.shape, w_out.shape]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["relu", "gelu", "silu"])
def test_derivatives_of_gradients(name):
    x, w_in, w_out, _, _, w_up = arrays(batch=())
    act = jaxact.get(name)
    with jaxact.autodiff(mode="both"):
        expected = jax.hessian(lambda x: plain_mlp(x, w_in, w_out, activation=act).sum())(x)
        gated = jax.hessian(lambda x: plain_gated(x, w_in, w_up, w_out, act).sum())(x)
    block = functools.partial(jaxact.mlp, activation=name)
    actual = jax.hessian(lambda x: block(x, w_in, w_out).sum())(x)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)
    block = functools.partial(jaxact.gated_mlp, activation=name)
    actual = jax.hessian(lambda x: block(x, w_in, w_up, w_out).sum())(x)
    np.testing.assert_allclose(actual, gated, rtol=1e-3, atol=1e-3)
    _, tangent = jax.jvp(jax.grad(lambda w: block(x, w, w_up, w_out).sum()), (w_in,), (w_in,))
    assert jnp.isfinite(tangent).all()


@pytest.mark.parametrize(
    "activation",
    [
        lambda h: (h, h),
        lambda h: 1.0,
        lambda h: h.astype(complex),
        lambda h: h > 0,
        lambda h: h.sum(),
    ],
)
def test_activations_that_return_something_else(activation):
    x, w_in, w_out, _, _, w_up = arrays()
    message = "the activation must return a real array of its input's shape"
    with pytest.raises(ValueError, match=f"^mlp: {message}"):
        jaxact.mlp(x, w_in, w_out, activation=activation)
    with pytest.raises(ValueError, match=f"^gated_mlp: {message}"):
        jaxact.gated_mlp(x, w_in, w_up, w_out, activation=activation)


def test_weights_sharded_over_the_batch_axis_too():
    """As fully sharded data parallelism with tensor parallelism does."""
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    x, w_in, w_out, *_ = arrays(batch=(4, 2))
    w_out = jnp.concatenate([w_out, w_out[:, :3]], axis=1)
    specs = P("data"), P("data", "model"), P("model", "data")
    gradient = jax.jit(jax.grad(lambda *a: jaxact.mlp(*a).sum(), (0, 1, 2)))
    expected = gradient(x, w_in, w_out)
    with jax.set_mesh(mesh):
        args = [
            jax.device_put(a, NamedSharding(mesh, s))
            for a, s in zip((x, w_in, w_out), specs, strict=True)
        ]
        actual = gradient(*args)
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-4 * np.abs(e).max())


def kept(fn, *args):
    """The arrays of hidden size that the pullback holds."""
    _, pullback = jax.jit(lambda *args: jax.vjp(fn, *args))(*args)
    return [a for a in jax.tree.leaves(pullback) if a.shape == (3, 4, HIDDEN)]


@pytest.mark.parametrize("residual", ["auto", "output", "mask", "quantized"])
@pytest.mark.parametrize("name", ["relu", "gelu", "mish"])
def test_keeps_the_pre_activations_and_nothing_else(name, residual):
    x, w_in, w_out, b_in, b_out, w_up = arrays()

    def block(x, w_in, w_out, b_in, b_out):
        return jaxact.mlp(x, w_in, w_out, b_in=b_in, b_out=b_out, activation=name)

    exact = jax.jit(jax.grad(lambda *a: block(*a).sum(), 1))(x, w_in, w_out, b_in, b_out)
    with jaxact.autodiff(residual=residual):
        (h,) = kept(block, x, w_in, w_out, b_in, b_out)
        gated = functools.partial(jaxact.gated_mlp, activation=name)
        gate, up = kept(gated, x, w_in, w_up, w_out)
        gradient = jax.jit(jax.grad(lambda *a: block(*a).sum(), 1))(x, w_in, w_out, b_in, b_out)
    np.testing.assert_allclose(h, x @ w_in + b_in[None, None], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(gate, x @ w_in, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(up, x @ w_up, rtol=1e-6, atol=1e-6)
    # What the activation itself would keep plays no part.
    np.testing.assert_allclose(gradient, exact, rtol=1e-5, atol=1e-5)


GPT_OSS = "clamped_swiglu:limit=0.5,alpha=1.702,offset=1"


@pytest.mark.parametrize("mode", ["reverse", "both", "plain"])
@pytest.mark.parametrize("gated", ["", "silu", GPT_OSS, "situ_glu"])
def test_saving_the_input_changes_no_result(gated, mode):
    x, w_in, w_out, b_in, b_out, w_up = arrays()
    weights = (w_in, w_up, w_out) if gated else (w_in, w_out, b_in, b_out)
    stacked = [jnp.stack([w, 0.5 * w]) for w in weights]

    def loss(save, x, *stacked):
        def layer(x, weights):
            if gated:
                y = jaxact.gated_mlp(x, *weights, activation=gated, save=save)
            else:
                w_in, w_out, b_in, b_out = weights
                y = jaxact.mlp(x, w_in, w_out, b_in=b_in, b_out=b_out, save=save)
            return x + 0.1 * y.sum(-1, keepdims=True), None

        return jnp.sin(lax.scan(layer, x, stacked)[0]).sum()

    with jaxact.autodiff(mode=mode):
        pre, of_input = (
            jax.jit(
                jax.vmap(
                    jax.value_and_grad(
                        functools.partial(loss, save), tuple(range(1 + len(stacked)))
                    ),
                    (0, *[None] * len(stacked)),
                )
            )(x, *stacked)
            for save in ("pre", "input")
        )
    for a, b in zip(jax.tree.leaves(pre), jax.tree.leaves(of_input), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def test_gated_functions_in_a_block():
    x, w_gate, w_out, _, _, w_up = arrays()
    y = jaxact.gated_mlp(x, w_gate, w_up, w_out, activation=GPT_OSS)
    gate, up = jnp.minimum(x @ w_gate, 0.5), jnp.clip(x @ w_up, -0.5, 0.5)
    expected = (gate * jax.nn.sigmoid(1.702 * gate) * (up + 1)) @ w_out
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="mlp: .*swiglu.* is a function of gate and up; use gated"):
        jaxact.mlp(x, w_gate, w_out, activation="swiglu")


@pytest.mark.parametrize("gated", [False, True])
def test_keeps_the_input_and_nothing_else(gated):
    """Of three layers in a scan: x of each, and no array of the hidden size."""
    x, w_in, w_out, *_, w_up = arrays(batch=(64,))
    w_out = normal(9, (HIDDEN, D))
    weights = [w_in, w_up, w_out] if gated else [w_in, w_out]
    block = jaxact.gated_mlp if gated else jaxact.mlp

    def scanned(save):
        def function(x, *weights):
            layer = lambda x, w: (x + block(x, *w, save=save), None)  # noqa: E731
            return lax.scan(layer, x, weights)[0]

        stacked = [jnp.stack([w] * 3) for w in weights]
        return sorted(r.shape for r in jaxact.memory.residuals(function, x, *stacked))

    of_weights = [(3, *w.shape) for w in weights]
    assert scanned("input") == sorted([*of_weights, (3, *x.shape)])
    hidden = (3, 64, HIDDEN)
    # x is needed for the first weights' gradient.
    assert scanned("pre") == sorted([*of_weights, (3, *x.shape), *[hidden] * (1 + gated)])


@pytest.mark.parametrize("gated", [False, True])
def test_pre_activations_have_a_name_for_policies(gated):
    x, w_in, w_out, *_, w_up = arrays()
    args = (x, w_in, w_up, w_out) if gated else (x, w_in, w_out)
    block = jaxact.gated_mlp if gated else jaxact.mlp
    hidden, products = (3, 4, HIDDEN), []
    for name, expected in (("jaxact.pre", [hidden] * (1 + gated)), ("other", [])):
        policy = jax.checkpoint_policies.save_only_these_names(name)
        checkpointed = jax.checkpoint(block, policy=policy)
        found = [r.shape for r in jaxact.memory.residuals(checkpointed, *args)]
        assert [shape for shape in found if shape == hidden] == expected
        text = str(jax.make_jaxpr(jax.grad(lambda *a, f=checkpointed: f(*a).sum()))(*args))
        products.append(text.count("dot_general"))
    # What is kept is not computed again.
    assert products[1] - products[0] == 1 + gated


@pytest.mark.parametrize(("save", "most"), [("pre", 1.9), ("input", 1.2)])
def test_layers_written_out_on_cpus(save, most):
    """Before JAX 0.12, XLA's CPU compiler merges what a jax.checkpoint computes again: 3.3."""
    shapes = (2048, 64), (64, 512), (512, 64)
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]

    def loss(x, w_in, w_out):
        for _ in range(4):
            x = x + jaxact.mlp(x, w_in, w_out, save=save)
        return jnp.sin(x).sum()

    program = jaxact.memory.compiled(jax.grad(loss, (0, 1, 2)), *args, target="cpu")
    assert program.temporaries / (4 * 2048 * 512 * 4) < most


@pytest.mark.parametrize("block", ["mlp", "gated_mlp"])
def test_unknown_save(block):
    x, w_in, w_out, *_, w_up = arrays()
    args = (x, w_in, w_out) if block == "mlp" else (x, w_in, w_up, w_out)
    with pytest.raises(ValueError, match=f"^{block}: save must be 'pre' or 'input', got 'inputs'"):
        getattr(jaxact, block)(*args, save="inputs")


def collectives(program):
    """How often each collective occurs in a compiled program."""
    text = program.as_text()
    names = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
    return {name: text.count(f" {name}(") + text.count(f" {name}-start(") for name in names}


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("save", ["pre", "input"])
def test_tensor_parallel(save, gated, axis_type):
    """The hidden dimension over devices: one all-reduce forward, like the plain expression's."""
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(axis_type,) * 2)
    x, w_in, w_out, _, _, w_up = arrays()
    x = jnp.concatenate([x, x[:1]])
    weights = (w_in, w_up, w_out) if gated else (w_in, w_out)
    specs = [P(None, "model")] * (len(weights) - 1) + [P("model")]
    block = functools.partial(jaxact.gated_mlp if gated else jaxact.mlp, save=save)
    expected = block(x, *weights)
    gradient = jax.jit(
        jax.grad(lambda *a: jnp.sin(block(*a)).sum(), tuple(range(len(weights) + 1)))
    )
    expected_gradient = gradient(x, *weights)
    with jax.set_mesh(mesh):
        args = [jax.device_put(x, NamedSharding(mesh, P("data")))]
        args += [
            jax.device_put(w, NamedSharding(mesh, s)) for w, s in zip(weights, specs, strict=True)
        ]
        program = jax.jit(block).lower(*args).compile()
        y, g = program(*args), gradient(*args)
        if axis_type == AxisType.Auto:
            plain = jax.jit(plain_gated if gated else plain_mlp).lower(*args).compile()
            assert collectives(program) == collectives(plain)
    counts = collectives(program)
    assert counts.pop("all-reduce") == 1 and not any(counts.values())
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    for a, e in zip(g, expected_gradient, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-4 * np.abs(e).max())
    if axis_type == AxisType.Explicit:
        assert y.sharding.is_equivalent_to(NamedSharding(mesh, P("data")), y.ndim)
        for a, like in zip(g, args, strict=True):
            assert a.sharding.is_equivalent_to(like.sharding, a.ndim)


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("save", ["pre", "input"])
def test_inside_shard_map(save, check_vma):
    """Tensor parallelism by hand: weights replicated over the data axis get their sums."""
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    x, w_in, w_out, *_ = arrays(batch=(8,))

    def loss(x, w_in, w_out):
        y = jaxact.mlp(x, w_in, w_out, save=save)
        return lax.psum(jnp.sin(y).sum(), "data")

    def sharded(*args):
        specs = (P("data"), P(), P())
        return jax.shard_map(loss, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=check_vma)(
            *args
        )

    actual = jax.jit(jax.grad(sharded, (0, 1, 2)))(x, w_in, w_out)
    expected = jax.jit(jax.grad(lambda *a: jnp.sin(jaxact.mlp(*a)).sum(), (0, 1, 2)))(
        x, w_in, w_out
    )
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-4)


def test_a_named_activation_is_traced_once():
    x, w_in, w_out, *_ = arrays()
    other = x + 1
    for activation in ("leaky_relu:0.3", jaxact.mish):
        jaxact.mlp(x, w_in, w_out, activation=activation)
        with jax.no_tracing():
            jaxact.mlp(other, w_in, w_out, activation=activation)


class Scale:
    """Its factor may change."""

    def __init__(self):
        self.factor = 1.0

    def __call__(self, h):
        return jnp.tanh(h) * self.factor


KEPT = jaxact.get("leaky_relu:0.2")
#: Of a number, an activation.
ACTIVATIONS = {
    "jax.nn.gelu": lambda _: jax.nn.gelu,
    "jax.nn.relu": lambda _: jax.nn.relu,
    "jnp.tanh": lambda _: jnp.tanh,
    "a kept partial": lambda _: KEPT,
    "a partial made anew": lambda _: functools.partial(jax.nn.leaky_relu, negative_slope=0.3),
    "slopes": lambda i: functools.partial(jaxact.prelu, alpha=jnp.full(HIDDEN, i + 0.1)),
    "slopes, by position": lambda i: functools.partial(jaxact.silu, beta=np.float32([i])),
    "a key": lambda i: functools.partial(jaxact.rrelu, key=jax.random.key(i)),
    "a function": lambda _: lambda h: h * jnp.tanh(h),
    "a closure over slopes": lambda i: lambda h: jaxact.prelu(h, jnp.full(HIDDEN, i + 0.1)),
    "an object": lambda _: Scale(),
}


@pytest.mark.parametrize("eager_gradient", [False, True])
@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_second_call_compiles_nothing(name, gated, eager_gradient):
    """With another input, other slopes, another key."""
    x, w_in, w_out, _, _, w_up = arrays()
    weights = (w_in, w_up, w_out) if gated else (w_in, w_out)
    block = jaxact.gated_mlp if gated else jaxact.mlp

    def call(i, x):
        def value(x):
            return block(x, *weights, activation=ACTIVATIONS[name](i)).sum()

        return jax.grad(value)(x) if eager_gradient else value(x)

    inputs = x, 1 - x
    first = call(0, inputs[0])
    # JAX traces again what it differentiates.
    kept = not (eager_gradient or name.startswith(("a function", "a closure", "an object")))
    with no_compilation(), jax.no_tracing() if kept else contextlib.nullcontext():
        second = call(1, inputs[1])
    assert (first != second).any()


def test_what_may_change_is_not_kept():
    x, w_in, w_out, *_ = arrays()
    scale = Scale()
    factors = [1.0]
    activations = (
        scale,
        scale.__call__,
        lambda h: jnp.tanh(h) * factors[0],
        functools.partial(lambda h, scale: scale(h), scale=scale),
        functools.partial(scaled_by_a_global),
    )
    for activation in activations:
        before = jaxact.mlp(x, w_in, w_out, activation=activation)
        scale.factor = factors[0] = GLOBAL["factor"] = 2.0
        after = jaxact.mlp(x, w_in, w_out, activation=activation)
        np.testing.assert_allclose(after, 2 * before, rtol=1e-5)
        scale.factor = factors[0] = GLOBAL["factor"] = 1.0


GLOBAL = {"factor": 1.0}


def scaled_by_a_global(h):
    return jnp.tanh(h) * GLOBAL["factor"]


@pytest.mark.parametrize("activation", ["silu", "jax.nn.gelu", "slopes"])
@pytest.mark.parametrize("gated", [False, True])
def test_products_that_something_stands_in_for(gated, activation, monkeypatch):
    """As quantisers do; also after the same call without them, in eager gradients and in jit."""
    x, w_in, w_out, _, _, w_up = arrays()
    weights = (w_in, w_up, w_out) if gated else (w_in, w_out)
    made = ACTIVATIONS.get(activation, jaxact.get)
    block = jaxact.gated_mlp if gated else jaxact.mlp

    def call(x):
        return block(x, *weights, activation=made(0 if made is not jaxact.get else activation))

    def loss(x):
        return (call(x) ** 2).sum()

    expected, gradient = call(x), jax.grad(loss)(x)
    seen = []
    product = lax.dot_general

    def stand_in(x, w, *args, **kwargs):
        seen.append(w)
        return product(x, w, *args, **kwargs)

    monkeypatch.setattr(lax, "dot_general", stand_in)
    np.testing.assert_allclose(call(x), expected, rtol=1e-5, atol=1e-4)
    # The products are of the weights themselves, called with no trace between.
    assert len(seen) == len(weights) and all(a is b for a, b in zip(seen, weights, strict=True))
    np.testing.assert_allclose(jax.grad(loss)(x), gradient, rtol=1e-4, atol=1e-2)
    assert len(seen) == 2 * len(weights)
    np.testing.assert_allclose(jax.jit(call)(x), expected, rtol=1e-5, atol=1e-4)
    assert len(seen) == 3 * len(weights)
    monkeypatch.undo()
    np.testing.assert_array_equal(call(x), expected)
    assert len(seen) == 3 * len(weights)


def test_inputs_and_weights_of_several_dtypes():
    x, w_in, w_out, *_ = arrays()
    args = x.astype(jnp.bfloat16), w_in, w_out.astype(jnp.bfloat16)
    with jax.numpy_dtype_promotion("standard"):
        y = jaxact.mlp(*args)
        gradients = jax.grad(lambda *args: jaxact.mlp(*args).sum(), (0, 1, 2))(*args)
    assert y.dtype == jnp.float32
    assert [g.dtype for g in gradients] == [a.dtype for a in args]
    rounded = (a.astype(jnp.bfloat16).astype(jnp.float32) for a in (x, w_out))
    x, w_out = rounded
    np.testing.assert_allclose(y, jaxact.mlp(x, w_in, w_out), rtol=1e-5, atol=1e-5)


def test_an_activation_that_closes_over_a_trace_is_not_kept():
    x, w_in, w_out, *_ = arrays()
    with jax.checking_leaks():
        jax.jit(lambda a: jaxact.mlp(x, w_in, w_out, activation=lambda h: h * a))(2.0)


def test_callables_without_a_hash():
    class Scale:
        __hash__ = None

        def __call__(self, h):
            return 2 * h

    x, w_in, w_out, _, _, w_up = arrays()
    y = jaxact.gated_mlp(x, w_in, w_up, w_out, activation=Scale())
    expected = 2 * jaxact.gated_mlp(x, w_in, w_up, w_out, activation="identity")
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": jnp.ones((2, 7))}, r"the last dimension of x is \(7,\).*w_in \(8, 32\).*\(8,\)"),
        ({"x": jnp.float32(1)}, r"the last dimension of x is \(\)"),
        ({"w_in": jnp.ones(8)}, r"w_in must be a matrix, got shape \(8,\)"),
        ({"w_out": jnp.ones((31, 5))}, r"first dimension of w_out is \(31,\).*\(32,\)"),
        ({"b_in": jnp.ones(5)}, r"shape of b_in is \(5,\).*must be \(32,\)"),
        ({"b_out": jnp.ones((5, 1))}, r"shape of b_out is \(5, 1\)"),
        ({"activation": "rellu"}, "Did you mean 'relu'"),
    ],
)
def test_bad_input_of_mlp(change, message):
    x, w_in, w_out, *_ = arrays()
    with pytest.raises(ValueError, match=message):
        jaxact.mlp(**{"x": x, "w_in": w_in, "w_out": w_out} | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w_up": jnp.ones((8, 31))}, r"shape of w_up is \(8, 31\).*must be \(8, 32\)"),
        ({"w_down": jnp.ones((8, 31))}, r"first dimension of w_down is \(8,\)"),
        ({"x": jnp.ones((2, 3))}, r"last dimension of x is \(3,\)"),
    ],
)
def test_bad_input_of_gated_mlp(change, message):
    x, w_in, w_out, _, _, w_up = arrays()
    args = {"x": x, "w_gate": w_in, "w_up": w_up, "w_down": w_out}
    with pytest.raises(ValueError, match=message):
        jaxact.gated_mlp(**args | change)


def test_an_activation_of_another_shape():
    x, w_in, w_out, *_ = arrays()
    with pytest.raises(ValueError, match=r"element by element; .* returned float32 \(3, 4, 64\)"):
        jaxact.mlp(x, w_in, w_out, activation="crelu")


def test_complex_input():
    x, w_in, w_out, *_ = arrays()
    with pytest.raises(TypeError, match="mlp: w_in must be real"):
        jaxact.mlp(x, w_in.astype(complex), w_out)
