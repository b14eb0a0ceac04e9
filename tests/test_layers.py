"""Layers: nnx, linen and the function agree to the last bit, and live in Flax's transformations."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import linen as nn, nnx
from flax.core import FrozenDict
from flax.training.train_state import TrainState
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import jaxact
import jaxact.linen
import jaxact.nnx
from tests.support.compiled import no_compilation
from tests.support.samples import normal

KEY = jax.random.key(11)
X = normal(1, (8, 6))
LAYERS = ("LeakyReLU", "PReLU", "RReLU", "ELU", "Swish", "XIELU", "MLP", "GatedMLP", "Activation")
FRAMEWORKS = {"nnx": jaxact.nnx, "linen": jaxact.linen}


@pytest.fixture(autouse=True)
def flaxs_promotion(strict_promotion):
    """Layers promote dtypes as Flax's do."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_layer_is_listed(framework):
    module = FRAMEWORKS[framework]
    base = {"nnx": nnx.Module, "linen": nn.Module}[framework]
    public = {
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, base) and not name.startswith("_")
    }
    assert public == set(LAYERS)


def parameters_of(layer: type):
    return inspect.signature(layer.__init__).parameters


@pytest.mark.parametrize("layer", LAYERS)
def test_both_frameworks_have_the_same_arguments(layer):
    def arguments(framework: str) -> list[tuple]:
        own = {"nnx": {"self", "rngs"}, "linen": {"self", "parent", "name"}}[framework]
        parameters = parameters_of(getattr(FRAMEWORKS[framework], layer)).values()
        return [(p.name, p.kind, p.default) for p in parameters if p.name not in own]

    assert arguments("nnx") == arguments("linen")


# ------------------------------------------------------------------------------------------------
# nnx = linen = function


def promoted(f, dtype):
    """The function of what Flax promotes inputs and weights to."""

    def call(x, *parameters):
        to = dtype or jnp.result_type(x, *parameters)
        return f(x.astype(to), *(p.astype(to) for p in parameters))

    return call


def rising(key, shape, dtype):
    return jnp.linspace(-1, 2, *shape).astype(dtype)


def silu_along(x, beta):
    return jaxact.silu(x, beta=beta)


def positive(key, shape, dtype):
    return 2 + rising(key, shape, dtype)


def xielu_of_raw(x, alpha_n, alpha_p, beta=0.5):
    """In alphabetical order."""
    alpha_n, alpha_p = (jaxact.softplus(a.astype(jnp.float32)) for a in (alpha_n, alpha_p))
    return jaxact.xielu(x, alpha_p, beta + alpha_n, beta=beta)


#: Of each layer: its arguments, the parameters' names, and the function of x and these.
CASES = {
    "LeakyReLU": ("LeakyReLU", (0.2,), {}, (), lambda x: jaxact.leaky_relu(x, 0.2)),
    "ELU": ("ELU", (1.3,), {}, (), lambda x: jaxact.elu(x, 1.3)),
    "PReLU": ("PReLU", (), {"slope_init": 0.1}, ("alpha",), jaxact.prelu),
    "PReLU of channels": ("PReLU", (6,), {}, ("alpha",), jaxact.prelu),
    "PReLU of rows": (
        "PReLU", (8,), {"axis": 0}, ("alpha",), functools.partial(jaxact.prelu, axis=0),
    ),
    "Swish": ("Swish", (), {"beta_init": 1.7}, ("beta",), silu_along),
    "Swish of channels": (
        "Swish", (6,), {"beta_init": rising}, ("beta",),
        lambda x, beta: jaxact.silu(x, beta=beta[None]),
    ),
    "XIELU": (
        "XIELU", (), {"alpha_p_init": 0.7, "alpha_n_init": 0.9}, ("alpha_n", "alpha_p"),
        xielu_of_raw,
    ),
    "XIELU of channels": (
        "XIELU", (6,), {"alpha_n_init": positive, "beta": 0.25}, ("alpha_n", "alpha_p"),
        functools.partial(xielu_of_raw, beta=0.25),
    ),
    "Activation": ("Activation", ("celu:0.7",), {}, (), lambda x: jaxact.celu(x, 0.7)),
    "Activation with slopes": (
        "Activation", ("prelu:0.3", 6), {}, ("alpha",),
        jaxact.prelu,
    ),
    "MLP": (
        "MLP", (6, 16, 5), {"activation": "mish"}, ("b_in", "w_in", "b_out", "w_out"),
        lambda x, b_in, w_in, b_out, w_out: jaxact.mlp(
            x, w_in, w_out, b_in=b_in, b_out=b_out, activation="mish"
        ),
    ),
    "MLP without biases": (
        "MLP", (6, 16), {"use_bias": False, "activation": "leaky_relu:0.2"}, ("w_in", "w_out"),
        lambda x, w_in, w_out: jaxact.mlp(x, w_in, w_out, activation="leaky_relu:0.2"),
    ),
    "GatedMLP": (
        "GatedMLP", (6, 16), {}, ("w_down", "w_gate", "w_up"),
        lambda x, w_down, w_gate, w_up: jaxact.gated_mlp(x, w_gate, w_up, w_down),
    ),
}  # fmt: skip
WITH_PARAMETERS = [case for case in CASES if CASES[case][3]]


def arguments_of(parameters):
    """A block's parameters by the names that its function has for them."""
    names = {
        ("linear_in", "kernel"): "w_in", ("linear_in", "bias"): "b_in",
        ("linear_out", "kernel"): "w_out", ("linear_out", "bias"): "b_out",
        ("gate", "kernel"): "w_gate", ("up", "kernel"): "w_up", ("down", "kernel"): "w_down",
    }  # fmt: skip
    return {names[layer, n]: p for layer, own in parameters.items() for n, p in own.items()}


def make(case: str, **dtypes):
    """(nnx layer, linen layer, parameters)"""
    name, args, kwargs, *_ = CASES[case]
    layer = getattr(jaxact.nnx, name)
    rngs = {"rngs": nnx.Rngs(0)} if "rngs" in parameters_of(layer) else {}
    in_nnx = layer(*args, **kwargs, **dtypes, **rngs)
    in_linen = getattr(jaxact.linen, name)(*args, **kwargs, **dtypes)
    return in_nnx, in_linen, nnx.to_pure_dict(nnx.state(in_nnx, nnx.Param))


def value_and_gradients(f, parameters, x):
    """Compiled as one."""

    def value(parameters, x):
        y = f(parameters, x)
        return y.astype(jnp.float32).sum(), y

    grad = jax.jit(jax.value_and_grad(value, (0, 1), has_aux=True))
    (_, y), gradients = grad(parameters, x)
    return y, gradients


def assert_same_bits(a, b):
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one.astype(jnp.float32), other.astype(jnp.float32))


@pytest.mark.parametrize(
    ("x_dtype", "dtype", "param_dtype"),
    [
        (jnp.float32, None, jnp.float32),
        (jnp.float32, jnp.bfloat16, jnp.float32),
        (jnp.bfloat16, None, jnp.float32),
        pytest.param(jnp.bfloat16, jnp.float32, jnp.bfloat16, marks=pytest.mark.slow),
        pytest.param(jnp.bfloat16, jnp.bfloat16, jnp.bfloat16, marks=pytest.mark.slow),
    ],
    ids=lambda d: d and jnp.dtype(d).name,
)
@pytest.mark.parametrize("case", CASES)
def test_nnx_is_linen_is_the_function(case, x_dtype, dtype, param_dtype):
    name, _, _, names, function = CASES[case]
    accepted = parameters_of(getattr(jaxact.nnx, name))
    dtypes = {"dtype": dtype, "param_dtype": param_dtype}
    in_nnx, in_linen, parameters = make(case, **dtypes if "dtype" in accepted else {})
    if "dtype" not in accepted or not names:
        # Nothing is learned: the input's dtype is that of the result.
        dtype = None
    leaves = jax.tree.leaves(parameters)
    assert all(leaf.dtype == param_dtype for leaf in leaves)
    graph = nnx.graphdef(in_nnx)

    def of_nnx(parameters, x):
        model = nnx.merge(graph, nnx.State(parameters))
        return model(x)

    def of_linen(parameters, x):
        return in_linen.apply({"params": parameters}, x)

    def of_function(parameters, x):
        arrays = jax.tree.leaves(parameters)  # In alphabetical order.
        if name in ("MLP", "GatedMLP"):
            return promoted(function, dtype)(x, *arrays)
        return function(x if dtype is None else x.astype(dtype), *arrays)

    x = X.astype(x_dtype)
    expected = value_and_gradients(of_function, parameters, x)
    assert_same_bits(value_and_gradients(of_nnx, parameters, x), expected)
    assert_same_bits(value_and_gradients(of_linen, parameters, x), expected)


@pytest.mark.parametrize("case", WITH_PARAMETERS)
def test_linen_has_the_parameters_of_nnx(case):
    _, in_linen, parameters = make(case)
    variables = in_linen.init(jax.random.key(0), X)
    assert jax.tree.map(lambda p: (p.shape, p.dtype), variables["params"]) == jax.tree.map(
        lambda p: (p.shape, p.dtype), parameters
    )
    if CASES[case][0] not in ("MLP", "GatedMLP"):
        assert_same_bits(variables["params"], parameters)


@pytest.mark.parametrize("divisor", [False, True])
@pytest.mark.parametrize("deterministic", [False, True])
def test_rrelu_is_the_same_for_the_same_key(deterministic, divisor):
    def of_nnx(_, x):
        layer = jaxact.nnx.RReLU(0.1, 0.4, divisor=divisor)
        return layer(x, rngs=KEY, deterministic=deterministic)

    def of_linen(_, x):
        layer = jaxact.linen.RReLU(0.1, 0.4, divisor=divisor)
        return layer.apply({}, x, rng=KEY, deterministic=deterministic)

    def of_function(_, x):
        options = {"deterministic": True} if deterministic else {"key": KEY}
        return jaxact.rrelu(x, lower=0.1, upper=0.4, divisor=divisor, **options)

    expected = value_and_gradients(of_function, (), X)
    assert_same_bits(value_and_gradients(of_nnx, (), X), expected)
    assert_same_bits(value_and_gradients(of_linen, (), X), expected)


@pytest.mark.parametrize("block", ["MLP", "GatedMLP"])
def test_blocks_with_random_slopes(block):
    in_nnx = getattr(jaxact.nnx, block)(6, 16, activation="rrelu:0.1,0.4", rngs=nnx.Rngs(0))
    parameters = nnx.to_pure_dict(nnx.state(in_nnx, nnx.Param))
    in_linen = getattr(jaxact.linen, block)(6, 16, activation="rrelu:0.1,0.4")
    y = in_nnx(X, rngs=KEY)
    np.testing.assert_array_equal(y, in_linen.apply({"params": parameters}, X, rng=KEY))
    function = {"MLP": jaxact.mlp, "GatedMLP": jaxact.gated_mlp}[block]
    rrelu = lambda h: jaxact.rrelu(h, KEY, 0.1, 0.4)  # noqa: E731
    np.testing.assert_array_equal(y, function(X, activation=rrelu, **arguments_of(parameters)))
    assert (in_nnx(X) != in_nnx(X)).any()
    in_nnx.eval()
    np.testing.assert_array_equal(in_nnx(X), in_nnx(X))
    np.testing.assert_array_equal(
        in_nnx(X), in_linen.apply({"params": parameters}, X, deterministic=True)
    )


@pytest.mark.parametrize("block", ["MLP", "GatedMLP"])
def test_blocks_with_learned_slopes(block):
    model = getattr(jaxact.nnx, block)(6, 16, activation="prelu:0.1", rngs=nnx.Rngs(0))
    gradient = nnx.grad(lambda model: (model(X) ** 2).sum())(model)
    alpha = gradient["hidden_activation"]["layer"]["alpha"][...]
    assert alpha.shape == (16,) and (alpha != 0).all()
    np.testing.assert_array_equal(model.hidden_activation.layer.alpha[...], np.float32([0.1] * 16))


@pytest.mark.parametrize("block", ["MLP", "GatedMLP"])
def test_slopes_of_a_block_have_its_parameters_dtype(block):
    options = {"activation": "prelu", "param_dtype": jnp.bfloat16}
    in_nnx = getattr(jaxact.nnx, block)(6, 16, **options, rngs=nnx.Rngs(0))
    in_linen = jax.eval_shape(getattr(jaxact.linen, block)(6, 16, **options).init, KEY, X)
    for tree in (nnx.state(in_nnx, nnx.Param), in_linen):
        assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize("block", ["MLP", "GatedMLP"])
def test_blocks_with_layers_as_activations(block):
    """A learned β has no name; random slopes take the block's keys."""
    function = {"MLP": jaxact.mlp, "GatedMLP": jaxact.gated_mlp}[block]
    in_nnx = getattr(jaxact.nnx, block)(
        6, 16, activation=jaxact.nnx.Swish(16, beta_init=0.7), rngs=nnx.Rngs(0)
    )
    in_linen = getattr(jaxact.linen, block)(6, 16, activation=jaxact.linen.Swish(16, beta_init=0.7))
    variables = jax.jit(in_linen.init)(KEY, X)
    beta = variables["params"].pop("activation")["beta"]
    assert beta.shape == in_nnx.hidden_activation.layer.beta.shape == (16,)
    parameters = nnx.to_pure_dict(nnx.state(in_nnx, nnx.Param))
    parameters.pop("hidden_activation")
    own_silu = lambda h: jaxact.silu(h, beta=beta[None])  # noqa: E731
    expected = function(X, activation=own_silu, **arguments_of(parameters))
    np.testing.assert_array_equal(in_nnx(X), expected)
    variables = {"params": {**parameters, "activation": {"beta": beta}}}
    np.testing.assert_array_equal(in_linen.apply(variables, X), expected)

    random = getattr(jaxact.nnx, block)(
        6, 16, activation=jaxact.nnx.RReLU(rngs=nnx.Rngs(1)), rngs=nnx.Rngs(0)
    )
    assert (random(X) != random(X)).any()
    np.testing.assert_array_equal(random(X, rngs=KEY), random(X, rngs=KEY))
    random.eval()
    np.testing.assert_array_equal(random(X), random(X))
    random = getattr(jaxact.linen, block)(6, 16, activation=jaxact.linen.RReLU())
    y, _ = random.init_with_output({"params": KEY, "rrelu": KEY}, X)
    assert y.shape == X.shape
    with pytest.raises(TypeError, match=f"^{block}: activation must be a name, a function, or a"):
        getattr(jaxact.linen, block)(6, 16, activation=nn.PReLU()).init(KEY, X)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_functions_as_activations(framework):
    def run(activation):
        made = FRAMEWORKS[framework].Activation(activation)
        return made(X) if framework == "nnx" else made.apply({}, X)

    keyed = functools.partial(jaxact.rrelu, key=KEY, lower=0.2, upper=0.3)
    np.testing.assert_array_equal(run(keyed), keyed(X))
    np.testing.assert_array_equal(run(jnp.sin), jnp.sin(X))
    always_mean = run("rrelu:deterministic=true")
    np.testing.assert_array_equal(always_mean, jaxact.rrelu(X, deterministic=True))
    with pytest.raises(ValueError, match="^Activation: swiglu takes two inputs"):
        run(jaxact.swiglu)


@pytest.mark.parametrize("block", ["MLP", "GatedMLP"])
def test_blocks_take_lists_and_integers(block):
    layer = getattr(jaxact.nnx, block)(2, 4, rngs=nnx.Rngs(0))
    np.testing.assert_array_equal(layer([[1, 2]]), layer(jnp.array([[1.0, 2.0]])))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("block", ["MLP", "GatedMLP"])
def test_bad_input_of_blocks(block, framework):
    layer = getattr(FRAMEWORKS[framework], block)
    call = layer(6, 16, rngs=nnx.Rngs(0)) if framework == "nnx" else layer(6, 16)
    call = call if framework == "nnx" else functools.partial(call.init, KEY)
    with pytest.raises(ValueError, match=rf"^{block}: the last dim.* in_features, 6; .* \(8, 5\)"):
        call(X[:, :5])
    with pytest.raises(TypeError, match=f"{block}: x must be real"):
        call(X.astype(complex))


# ------------------------------------------------------------------------------------------------
# Blocks hold Flax's layers

HIDDEN = 16
LAST = {"MLP": "linear_out", "GatedMLP": "down"}
FIRST = {"MLP": ["linear_in"], "GatedMLP": ["gate", "up"]}
BLOCKS = pytest.mark.parametrize("block", list(LAST))


def make_block(block, **options):
    return getattr(jaxact.nnx, block)(6, HIDDEN, **options, rngs=nnx.Rngs(0))


def written_out(model, x, activation):
    """A block of NNX, by calls of its layers."""
    if isinstance(model, jaxact.nnx.MLP):
        return model.linear_out(activation(model.linear_in(x)))
    return model.down(activation(model.gate(x)) * model.up(x))


@BLOCKS
def test_blocks_hold_the_layers_of_flax(block):
    model = make_block(block)
    layers = [*FIRST[block], LAST[block]]
    assert [type(getattr(model, name)) for name in layers] == [nnx.Linear] * len(layers)
    # Their initial values are those of layers made one after the other.
    rngs = nnx.Rngs(0)
    init = jax.nn.initializers.lecun_normal()
    for name in layers:
        layer = getattr(model, name)
        np.testing.assert_array_equal(layer.kernel[...], init(rngs.params(), layer.kernel.shape))
        if layer.bias is not None:
            rngs.params()

    class Parent(nn.Module):
        @nn.compact
        def __call__(self, x):
            for name in layers[:-1]:
                h = nn.Dense(HIDDEN, use_bias=block == "MLP", name=name)(x)
            return nn.Dense(6, use_bias=block == "MLP", name=layers[-1])(h)

    expected = Parent().init(KEY, X)
    variables = getattr(jaxact.linen, block)(6, HIDDEN).init(KEY, X)
    assert jax.tree.structure(variables) == jax.tree.structure(expected)
    assert_same_bits(variables, expected)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@BLOCKS
def test_blocks_keep_their_pre_activations_alone(block, framework):
    if framework == "nnx":
        graph, parameters = nnx.split(make_block(block, activation="silu"))
        apply = lambda p, x: nnx.merge(graph, p)(x)  # noqa: E731
    else:
        layer = getattr(jaxact.linen, block)(6, HIDDEN, activation="silu")
        parameters = layer.init(KEY, X)
        apply = layer.apply
    x = X[:7]  # No weight has its number of rows.
    _, pullback = jax.jit(lambda p, x: jax.vjp(apply, p, x))(parameters, x)
    kept = [a for a in jax.tree.leaves(pullback) if a.shape == (7, HIDDEN)]
    assert len(kept) == len(FIRST[block])


@BLOCKS
@pytest.mark.parametrize("kind", ["LoRA", "WeightNorm", "dot_general", "precision"])
def test_a_last_layer_that_does_more_is_called(block, kind):
    model = make_block(block, activation="mish")
    calls = []

    def twice(*args, **kwargs):
        calls.append(args)
        return 2 * jax.lax.dot_general(*args, **kwargs)

    for name in (*FIRST[block], LAST[block]):
        layer = getattr(model, name)
        if kind == "LoRA":
            sizes = layer.in_features, 2, layer.out_features
            layer = nnx.LoRA(*sizes, base_module=layer, rngs=nnx.Rngs(1))
            layer.lora_b[...] = jnp.ones(layer.lora_b.shape)
            setattr(model, name, layer)
        elif kind == "WeightNorm":
            setattr(model, name, nnx.WeightNorm(layer, use_scale=False, rngs=nnx.Rngs(1)))
        elif kind == "dot_general":
            layer.dot_general = twice
        else:
            layer.precision = jax.lax.Precision.HIGHEST
    expected = written_out(model, X, jaxact.mish)
    calls.clear()
    y = model(X)
    assert len(calls) == (len(FIRST[block]) + 1 if kind == "dot_general" else 0)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    if kind != "precision":
        plain = make_block(block, activation="mish")
        assert (abs(y - plain(X)) > 1e-3).any()

    def loss(call):
        return jax.tree.leaves(nnx.grad(lambda model: (call(model) ** 2).sum())(model))

    expected = loss(lambda model: written_out(model, X, jaxact.mish))
    for a, e in zip(loss(lambda model: model(X)), expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-4)


@BLOCKS
def test_lora_alone_is_trained(block):
    model = make_block(block)
    for name in (*FIRST[block], LAST[block]):
        layer = getattr(model, name)
        sizes = layer.in_features, 2, layer.out_features
        setattr(model, name, nnx.LoRA(*sizes, base_module=layer, rngs=nnx.Rngs(1)))
    np.testing.assert_array_equal(model(X), make_block(block)(X))
    before = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.LoRAParam)
    trained = nnx.DiffState(0, nnx.LoRAParam)
    for _ in range(2):
        optimizer.update(model, nnx.grad(lambda m: (m(X) ** 2).mean(), argnums=trained)(model))
    after = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, after)
    for name in (*FIRST[block], LAST[block]):
        assert moved[name]["lora_a"] and moved[name]["lora_b"]
        assert not any(moved[name]["base_module"].values())


def test_lora_linear():
    model = make_block("MLP")
    model.linear_out = nnx.LoRALinear(HIDDEN, 6, lora_rank=2, rngs=nnx.Rngs(3))
    model.linear_out.lora.lora_b[...] += 1
    np.testing.assert_allclose(model(X), written_out(model, X, jaxact.gelu), rtol=1e-5, atol=1e-6)


@BLOCKS
def test_weight_norm_of_linen(block):
    """Around the block, and of one of its kernels."""
    layer = getattr(jaxact.linen, block)(6, HIDDEN, activation="relu")
    for part in ("kernel", f"{LAST[block]}/kernel"):
        model = nn.WeightNorm(layer, use_scale=False, feature_axes=None, variable_filter={part})
        # Flax normalises the initial values already.
        variables = jax.tree.map(lambda p: 3 * p, model.init(KEY, X))
        inner = variables["params"]["layer_instance"]
        unit = jax.tree_util.tree_map_with_path(
            lambda path, p, part=part: (
                p / jnp.sqrt((p**2).sum() + 1e-12) if part in "/".join(k.key for k in path) else p
            ),
            inner,
        )
        expected = layer.apply({"params": unit}, X)
        np.testing.assert_allclose(model.apply(variables, X), expected, rtol=1e-5, atol=1e-6)
        assert (abs(expected - layer.apply({"params": inner}, X)) > 1e-3).any()


@pytest.mark.parametrize("framework", FRAMEWORKS)
@BLOCKS
def test_a_mask_on_kernels(block, framework):
    """Weight decay of what is called "kernel" alone, as of Flax's layers."""
    if framework == "nnx":
        state = nnx.to_pure_dict(nnx.state(make_block(block, activation="prelu"), nnx.Param))
    else:
        layer = getattr(jaxact.linen, block)(6, HIDDEN, activation="prelu")
        state = layer.init(KEY, X)["params"]
    mask = lambda tree: jax.tree_util.tree_map_with_path(  # noqa: E731
        lambda path, _: path[-1].key == "kernel", tree
    )
    decay = optax.masked(optax.add_decayed_weights(1.0), mask)
    updates, _ = decay.update(jax.tree.map(jnp.zeros_like, state), decay.init(state), state)
    decayed = {
        "/".join(k.key for k in path)
        for path, u in jax.tree_util.tree_leaves_with_path(updates)
        if (u != 0).any()
    }
    assert decayed == {f"{name}/kernel" for name in (*FIRST[block], LAST[block])}


@BLOCKS
def test_interceptors_of_linen_see_the_hidden_activation(block):
    layer = getattr(jaxact.linen, block)(6, HIDDEN, activation="relu")
    variables = layer.init(KEY, X)
    seen = {}

    def record(call, args, kwargs, context):
        if isinstance(context.module, nn.Dense):
            seen[context.module.name] = args[0]
        return call(*args, **kwargs)

    expected = layer.apply(variables, X)
    with nn.intercept_methods(record):
        y = layer.apply(variables, X)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    assert set(seen) == {*FIRST[block], LAST[block]}
    pre = [X @ variables["params"][name]["kernel"] for name in FIRST[block]]
    hidden = jaxact.relu(pre[0]) * (pre[1] if block == "GatedMLP" else 1)
    np.testing.assert_allclose(seen[LAST[block]], hidden, rtol=1e-5, atol=1e-6)
    _, captured = layer.apply(variables, X, capture_intermediates=True)
    (last,) = captured["intermediates"][LAST[block]]["__call__"]
    np.testing.assert_allclose(last, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=str)
@BLOCKS
def test_blocks_with_weights_sharded_over_the_batch_axis_too(block, axis_type):
    options = {"activation": "prelu", "rngs": nnx.Rngs(0)}
    expected = getattr(jaxact.nnx, block)(8, HIDDEN, **options)(jnp.ones((4, 8)))
    with jax.set_mesh(mesh_of((2, 4), axis_type)):
        options = {"activation": "prelu", "rngs": nnx.Rngs(0), "partitioning": ("data", "model")}
        model = getattr(jaxact.nnx, block)(8, HIDDEN, **options)
        x = jax.device_put(jnp.ones((4, 8)), NamedSharding(jax.sharding.get_mesh(), P("data")))
        for call in (model, nnx.jit(lambda x, model=model: model(x))):
            np.testing.assert_allclose(call(x), expected, rtol=1e-5, atol=1e-6)
        gradient = nnx.grad(lambda model: model(x).sum())(model)
        for name in (*FIRST[block], LAST[block]):
            kernel = getattr(model, name).kernel
            if axis_type == AxisType.Explicit:
                assert gradient[name]["kernel"][...].sharding.spec == kernel[...].sharding.spec


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("kind", ["prelu", "rrelu", "Swish", "jax.nn.gelu", "silu"])
@BLOCKS
def test_a_second_call_compiles_nothing(block, kind, framework):
    """With other slopes, another key and another input."""
    module = FRAMEWORKS[framework]
    activation = {"Swish": module.Swish(HIDDEN), "jax.nn.gelu": jax.nn.gelu}.get(kind, kind)
    x = 2 * X
    if framework == "nnx":
        model = make_block(block, activation=activation)
        parameters = nnx.state(model, nnx.Param)
        other = jax.tree.map(lambda p: p + 0.1, parameters)
        y = model(X)
        nnx.update(model, other)
        with no_compilation(), jax.no_tracing():
            y, before = model(x), y
        assert (y != before).any()
        return
    layer = getattr(module, block)(6, HIDDEN, activation=activation)
    parameters = layer.init({"params": KEY, "rrelu": KEY}, X)
    other = jax.tree.map(lambda p: p + 0.1, parameters)
    keys = [{"rrelu": jax.random.key(i)} for i in range(2)]
    y = layer.apply(parameters, X, rngs=keys[0])
    with no_compilation():
        y, before = layer.apply(other, x, rngs=keys[1]), y
    assert (y != before).any()


# ------------------------------------------------------------------------------------------------
# Checkpoints of before


def old_names(tree):
    """As checkpoints had them."""
    if not isinstance(tree, dict):
        return tree
    tree = {name: old_names(value) for name, value in tree.items()}
    for layer in ("linear_in", "linear_out", "gate", "up", "down"):
        if layer in tree:
            tree.update(arguments_of({layer: tree.pop(layer)}))
    return tree


class Model(nnx.Module):
    def __init__(self, rngs):
        @nnx.split_rngs(splits=3)
        @nnx.vmap
        def stacked(rngs):
            return jaxact.nnx.MLP(6, HIDDEN, rngs=rngs)

        self.layers = stacked(rngs)
        self.last = nnx.List([jaxact.nnx.GatedMLP(6, HIDDEN, activation="prelu", rngs=rngs)])
        self.linear = nnx.Linear(6, 6, rngs=rngs)


def test_renaming_of_nnx_and_its_optimizer(tmp_path):
    model = Model(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adamw(1e-3), wrt=nnx.Param)
    optimizer.update(model, jax.tree.map(jnp.ones_like, nnx.state(model, nnx.Param)))
    now = {
        "model": nnx.to_pure_dict(nnx.state(model)),
        "optimizer": nnx.to_pure_dict(nnx.state(optimizer)),
    }
    old = old_names(now)
    assert set(old["model"]["layers"]) == {"w_in", "b_in", "w_out", "b_out"}
    assert old["model"]["layers"]["w_in"].shape == (3, 6, HIDDEN)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "old", old)
    with ocp.StandardCheckpointer() as checkpointer:
        saved = checkpointer.restore(tmp_path / "old")
    restored = jaxact.nnx.renamed(saved)
    other = Model(nnx.Rngs(1))
    other_optimizer = nnx.Optimizer(other, optax.adamw(1e-3), wrt=nnx.Param)
    for part, node in (("model", other), ("optimizer", other_optimizer)):
        state = nnx.state(node)
        nnx.replace_by_pure_dict(state, restored[part])
        nnx.update(node, state)
    assert_same_bits(nnx.state(other), nnx.state(model))
    assert_same_bits(nnx.state(other_optimizer), nnx.state(optimizer))


def test_renaming_of_linen_and_of_optax():
    model = LinenBlock()
    now = model.init({"params": KEY, "rrelu": KEY}, X)["params"]
    old = old_names(now)
    with pytest.raises(ValueError, match=r"^MLP: .*'w_in'; write params = jaxact.linen.renamed\("):
        model.apply({"params": old}, X, rngs={"rrelu": KEY})
    assert_same_trees(jaxact.linen.renamed(old), now)
    assert_same_trees(jaxact.linen.renamed(FrozenDict(old)), FrozenDict(now))
    optimizer = optax.chain(optax.clip(1.0), optax.masked(optax.adam(1e-3), lambda p: True))
    assert_same_trees(jaxact.linen.renamed(optimizer.init(old)), optimizer.init(now))
    states = [TrainState.create(apply_fn=model.apply, params=p, tx=optimizer) for p in (old, now)]
    assert_same_trees(jaxact.linen.renamed(states[0]), states[1])
    specs = jax.tree.map(lambda _: P("model"), old)
    assert_same_structure(jaxact.linen.renamed(specs), jax.tree.map(lambda _: P("model"), now))


def test_renaming_of_a_state():
    model = make_block("MLP", activation="prelu")
    state = nnx.state(model, nnx.Param)
    old = nnx.State(old_names({name: dict(value) for name, value in state.items()}))
    assert set(old) == {"w_in", "b_in", "w_out", "b_out", "hidden_activation"}
    other = make_block("MLP", activation="prelu:0.7")
    nnx.update(other, jax.tree.map(jnp.zeros_like, state))
    nnx.update(other, jaxact.nnx.renamed(old))
    assert_same_bits(nnx.state(other), state)


def test_what_has_todays_names_is_left_as_it_is():
    for tree in (
        nnx.to_pure_dict(nnx.state(Model(nnx.Rngs(0)))),
        {"w_in": X, "other": [X, (X, None)]},  # No block without the second weight.
        optax.adam(1e-3).init({"w": X}),
        nnx.state(make_block("MLP")),
    ):
        assert jaxact.nnx.renamed(tree) is tree


def assert_same_structure(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)


def assert_same_trees(a, b):
    assert_same_structure(a, b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


# ------------------------------------------------------------------------------------------------
# RReLU: where keys come from


def test_keys_of_rrelu():
    rngs = nnx.Rngs(0, rrelu=7)
    layer = jaxact.nnx.RReLU(rngs=rngs)
    expected = nnx.Rngs(0, rrelu=7)["rrelu"].fork()
    for _ in range(2):  # A new key in each call.
        np.testing.assert_array_equal(layer(X), jaxact.rrelu(X, expected()))
    # Forked: calls do not move the stream that it came from.
    count = int(rngs["rrelu"].count[...])
    layer(X)
    assert int(rngs["rrelu"].count[...]) == count
    # Two layers draw differently.
    other = jaxact.nnx.RReLU(rngs=rngs)
    assert (layer(X) != other(X)).any()
    # Keys passed at the call.
    for source in (KEY, nnx.Rngs(rrelu=KEY), nnx.Rngs(rrelu=KEY)["rrelu"]):
        y = layer(X, rngs=source)
        key = KEY if isinstance(source, jax.Array) else nnx.Rngs(rrelu=KEY)["rrelu"]()
        np.testing.assert_array_equal(y, jaxact.rrelu(X, key))


def test_deterministic_in_nnx():
    mean = jaxact.rrelu(X, deterministic=True)
    model = nnx.Sequential(jaxact.nnx.RReLU(rngs=nnx.Rngs(0)), nnx.Dropout(0.5, rngs=nnx.Rngs(1)))
    layer = model.layers[0]
    assert (layer(X) != mean).any()
    np.testing.assert_array_equal(layer(X, deterministic=True), mean)
    view = nnx.view(model, deterministic=True)
    np.testing.assert_array_equal(view.layers[0](X), mean)
    assert (layer(X) != mean).any(), "a view leaves the model as it is"
    model.eval()
    np.testing.assert_array_equal(layer(X), mean)
    assert (layer(X, deterministic=False) != mean).any()
    model.train()
    assert (layer(X) != mean).any()
    np.testing.assert_array_equal(jaxact.nnx.RReLU(deterministic=True)(X), mean)


def test_deterministic_in_linen():
    mean = jaxact.rrelu(X, deterministic=True)
    layer = jaxact.linen.RReLU()
    y = layer.apply({}, X, rngs={"rrelu": KEY})
    assert (y != mean).any()
    np.testing.assert_array_equal(y, layer.apply({}, X, rngs={"rrelu": KEY}))
    assert (y != layer.apply({}, X, rngs={"rrelu": jax.random.key(12)})).any()
    np.testing.assert_array_equal(layer.apply({}, X, deterministic=True), mean)
    np.testing.assert_array_equal(jaxact.linen.RReLU(deterministic=True).apply({}, X), mean)
    forced = jaxact.linen.RReLU(deterministic=True)
    y = forced.apply({}, X, deterministic=False, rngs={"rrelu": KEY})
    assert (y != mean).any()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_missing_key_lists_the_fixes_and_these_work(framework):
    call = {
        "nnx": lambda: jaxact.nnx.RReLU()(X),
        "linen": lambda: jaxact.linen.RReLU().apply({}, X),
    }[framework]
    with pytest.raises(ValueError, match="^RReLU: no key for its random slopes") as error:
        call()
    fixes = [line.partition("#")[0].strip() for line in str(error.value).splitlines()[1:]]
    assert len(fixes) >= 4
    for fix in fixes:
        names = {"jax": jax, "nnx": nnx, "x": X, "variables": {}}
        if framework == "nnx":
            layer = jaxact.nnx.RReLU()
            names |= {"RReLU": jaxact.nnx.RReLU, "layer": layer, "model": layer}
            exec(fix, names)
            if fix.startswith("RReLU"):
                eval(fix, names)(X)
            elif "model" in fix:
                names["model"](X)
        else:

            class Parent(nn.Module):
                fix: str

                @nn.compact
                def __call__(self, x):
                    layer = jaxact.linen.RReLU()
                    layers = {"RReLU": jaxact.linen.RReLU, "layer": layer, "x": x, "jax": jax}
                    result = eval(self.fix, layers)
                    return result(x) if isinstance(result, nn.Module) else result

            if fix.startswith("model"):
                eval(fix, names | {"model": jaxact.linen.RReLU()})
            else:
                Parent(fix).apply({}, X)


def test_streams_that_cannot_be_used():
    with pytest.raises(ValueError, match="neither a stream 'rrelu' nor a default one"):
        jaxact.nnx.RReLU(rngs=nnx.Rngs(params=0))
    with pytest.raises(TypeError, match="RReLU: rngs must be nnx.Rngs or one of its streams"):
        jaxact.nnx.RReLU(rngs=3)


# ------------------------------------------------------------------------------------------------
# Arguments


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("layer", ["PReLU", "Swish", "XIELU"])
def test_bad_features(framework, layer):
    def run(x, *args, **kwargs):
        made = getattr(FRAMEWORKS[framework], layer)(*args, **kwargs)
        return made(x) if framework == "nnx" else made.init(KEY, x)

    for features in (0, -2, 2.0, True, "3"):
        with pytest.raises(ValueError, match=f"^{layer}: features must be the number of channels"):
            run(X, features)
    with pytest.raises(ValueError, match=f"^{layer}: one shared parameter cannot lie on the mesh"):
        run(X, partitioning="model")
    with pytest.raises(ValueError, match="5"):
        run(X, 5)
    with pytest.raises(ValueError, match="axis 2 is out of range for an array of 2 dimensions"):
        run(X, 6, axis=2)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize(
    ("activation", "message"),
    [
        ("leaky", "^get: unknown activation 'leaky'. Did you mean 'leaky_relu'"),
        ("swiglu", "^Activation: swiglu takes two inputs; use GatedMLP"),
        ("threshold", "^Activation: threshold needs values for threshold and value: 'threshold:"),
        ("prelu:beta=1", "prelu has no parameter 'beta'"),
        ("prelu:nan", "prelu: alpha is NaN; pass a number"),
    ],
)
def test_bad_names(framework, activation, message):
    def run():
        made = FRAMEWORKS[framework].Activation(activation)
        return made(X) if framework == "nnx" else made.init(KEY, X)

    with pytest.raises(ValueError, match=message):
        run()


def single_input_names():
    for name, function in jaxact.ACTIVATIONS.items():
        needed = [
            p.name
            for p in inspect.signature(function).parameters.values()
            if p.default is p.empty and p.name not in ("x", "alpha")
        ]
        if not needed:
            yield name


@pytest.mark.parametrize("name", list(single_input_names()))
def test_every_name_is_a_layer(name):
    layer = jaxact.nnx.Activation(name, rngs=nnx.Rngs(0))
    y = layer(X, deterministic=True)
    linen = jaxact.linen.Activation(name)
    variables = linen.init({"params": KEY, "rrelu": KEY}, X)
    np.testing.assert_array_equal(y, linen.apply(variables, X, deterministic=True))
    parameters = {"prelu": (0.25,)}.get(name, ())
    options = {"deterministic": True} if name == "rrelu" else {}
    np.testing.assert_array_equal(y, jaxact.ACTIVATIONS[name](X, *parameters, **options))


def test_activations_of_the_same_name_are_the_same_graph():
    """Functions made anew would compile again, and not merge."""
    one, other = (nnx.graphdef(jaxact.nnx.Activation("leaky_relu:0.2")) for _ in range(2))
    assert one == other and hash(one) == hash(other)


def test_options_in_the_name():
    layer = jaxact.nnx.Activation("rrelu:lower=0.2,upper=0.3,divisor=true", rngs=nnx.Rngs(0))
    assert (layer.layer.lower, layer.layer.upper, layer.layer.divisor) == (0.2, 0.3, True)
    layer = jaxact.nnx.Activation("prelu:0.1,axis=0", 8)
    np.testing.assert_array_equal(layer(X), jaxact.prelu(X, jnp.full(8, 0.1), axis=0))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_initializers_of_slopes(framework):
    uniform = jax.nn.initializers.uniform(0.5)
    if framework == "nnx":
        a, b = (jaxact.nnx.PReLU(6, slope_init=uniform, rngs=nnx.Rngs(i)).alpha for i in (0, 1))
    else:
        layer = jaxact.linen.PReLU(6, slope_init=uniform)
        a, b = (layer.init(jax.random.key(i), X)["params"]["alpha"] for i in (0, 1))
    assert a.shape == (6,) and (a[...] != b[...]).all()
    assert (a[...] >= 0).all() and (a[...] < 0.5).all()


# ------------------------------------------------------------------------------------------------
# Slopes from elsewhere


def test_slopes_of_pytorch():
    weight = np.linspace(0.1, 0.4, 5, dtype=np.float32)  # PReLU(5).weight, channels at axis 1
    x = np.random.default_rng(0).normal(size=(2, 5, 3, 4)).astype(np.float32)
    expected = np.where(x >= 0, x, weight[None, :, None, None] * x)
    layer = jaxact.nnx.PReLU(5, axis=1)
    layer.alpha[...] = jnp.asarray(weight).reshape(layer.alpha.shape)
    np.testing.assert_array_equal(layer(x), expected)
    variables = {"params": {"alpha": jnp.asarray(weight).reshape(-1)}}
    np.testing.assert_array_equal(jaxact.linen.PReLU(5, axis=1).apply(variables, x), expected)
    shared = jaxact.nnx.PReLU()
    shared.alpha[...] = jnp.asarray(weight[:1]).reshape(shared.alpha.shape)
    np.testing.assert_array_equal(shared(x), np.where(x >= 0, x, weight[0] * x))


def test_slopes_of_keras():
    slopes = np.linspace(0.1, 0.4, 5, dtype=np.float32).reshape(1, 1, 5)  # shared_axes=[1, 2]
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    layer = jaxact.nnx.PReLU(5)
    layer.alpha[...] = jnp.asarray(slopes).reshape(layer.alpha.shape)
    np.testing.assert_array_equal(layer(x), np.where(x >= 0, x, slopes * x))


def test_slopes_of_the_real_pytorch():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.PReLU(5)
    with torch.no_grad():
        theirs.weight.copy_(torch.linspace(-0.1, 0.4, 5))
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    layer = jaxact.nnx.PReLU(5, axis=1)
    layer.alpha[...] = jnp.asarray(theirs.weight.detach().numpy()).reshape(layer.alpha.shape)
    np.testing.assert_array_equal(layer(x), theirs(torch.from_numpy(x)).detach().numpy())


def test_xielu_of_transformers():
    """Its raw parameters load, in float32 and as it keeps them: in bfloat16."""
    torch = pytest.importorskip("torch")
    activations = pytest.importorskip("transformers.activations")
    theirs = activations.XIELUActivation(dtype=torch.float32)
    ours = jaxact.nnx.XIELU()
    raw = {n: getattr(theirs, n).detach().numpy() for n in ("alpha_p", "alpha_n")}
    for name, value in raw.items():
        np.testing.assert_allclose(getattr(ours, name)[...], value[0], rtol=1e-6)
    with torch.no_grad():
        theirs.alpha_p.fill_(0.1)
        theirs.alpha_n.fill_(-0.7)
    ours.alpha_p[...], ours.alpha_n[...] = jnp.float32(0.1), jnp.float32(-0.7)
    x = np.linspace(-5, 5, 64, dtype=np.float32)
    inputs = torch.from_numpy(x).requires_grad_()
    y = theirs(inputs)
    y.sum().backward()
    np.testing.assert_allclose(ours(x), y.detach().numpy(), rtol=1e-5, atol=1e-6)
    gradient = jax.grad(lambda x: ours(x).sum())(x)
    np.testing.assert_allclose(gradient, inputs.grad.numpy(), rtol=1e-5, atol=1e-6)
    grads = nnx.grad(lambda layer: layer(x).sum())(ours)
    for name in raw:
        expected = getattr(theirs, name).grad.numpy()[0]
        np.testing.assert_allclose(getattr(grads, name)[...], expected, rtol=1e-5)


def test_parameters_of_xielu():
    layer = jaxact.nnx.XIELU()
    # As published: log(expm1(0.8)) and log(expm1(0.8 - 0.5)).
    np.testing.assert_allclose(layer.alpha_p[...], 0.20338232, rtol=1e-6)
    np.testing.assert_allclose(layer.alpha_n[...], -1.0502256, rtol=1e-6)
    x = jnp.array([-3.0, -1.0, 2.0])
    np.testing.assert_allclose(layer(x), jaxact.xielu(x, 0.8, 0.8), rtol=1e-6)
    with pytest.raises(ValueError, match="^XIELU: alpha_p_init must be larger than 0, got -1"):
        jaxact.nnx.XIELU(alpha_p_init=-1)
    with pytest.raises(ValueError, match="^XIELU: alpha_n_init must be larger than 0.5, got 0.5"):
        jaxact.linen.XIELU(alpha_n_init=0.5).init(KEY, x)
    named = jaxact.nnx.Activation("xielu:alpha_p=1.5", 3)
    assert named.layer.alpha_n.shape == (3,)
    np.testing.assert_allclose(jax.nn.softplus(named.layer.alpha_p[...]), 1.5, rtol=1e-6)


# ------------------------------------------------------------------------------------------------
# Flax's transformations


class Network(nnx.Module):
    """All that has a state."""

    def __init__(self, rngs: nnx.Rngs):
        self.layers = nnx.Sequential(
            nnx.Linear(6, 6, rngs=rngs),
            jaxact.nnx.PReLU(6),
            jaxact.nnx.RReLU(rngs=rngs),
            jaxact.nnx.Swish(6),
            jaxact.nnx.MLP(6, 12, activation="prelu", rngs=rngs),
            jaxact.nnx.GatedMLP(6, 12, activation="rrelu", rngs=rngs),
            jaxact.nnx.Activation("leaky_relu:0.2"),
        )

    def __call__(self, x):
        return self.layers(x)


def test_jit_and_split_and_merge():
    model, twin = Network(nnx.Rngs(0)), Network(nnx.Rngs(0))
    step = nnx.jit(lambda model, x: model(x))
    for _ in range(2):  # The streams of keys move on under jit too.
        np.testing.assert_allclose(step(model, X), twin(X), rtol=2e-5, atol=1e-6)
    assert (step(model, X) != step(model, X)).any()
    graph, parameters, rest = nnx.split(model, nnx.Param, ...)
    copy = nnx.merge(graph, parameters, rest, copy=True)
    np.testing.assert_array_equal(copy(X), model(X))


@pytest.mark.slow
def test_remat():
    def loss(f):
        model = Network(nnx.Rngs(0))
        return nnx.value_and_grad(lambda model: (f(model, X) ** 2).sum())(model)

    plain, gradients = loss(lambda model, x: model(x))
    again, rematerialised = loss(nnx.remat(lambda model, x: model(x)))
    np.testing.assert_allclose(plain, again, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(gradients), jax.tree.leaves(rematerialised), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def stack(n: int) -> nnx.Module:
    @nnx.split_rngs(splits=n)
    @nnx.vmap(in_axes=0, out_axes=0)
    def create(rngs):
        return Network(rngs)

    return create(nnx.Rngs(0))


@pytest.mark.slow
def test_vmap_and_scan():
    layers = stack(3)
    alpha = layers.layers.layers[1].alpha
    assert alpha.shape == (3, 6)

    @nnx.vmap(in_axes=(0, None), out_axes=0)
    def each(layer, x):
        return layer(x)

    y = each(layers, X)
    assert y.shape == (3, 8, 6)
    assert (each(layers, X) != y).any(), "keys move on"

    @nnx.scan(in_axes=(0, nnx.Carry), out_axes=nnx.Carry)
    def chain(layer, x):
        return layer(x)

    # One after the other, with a copy of each layer's state.
    graph, state = nnx.split(layers)
    expected = X
    for i in range(3):
        expected = nnx.merge(graph, jax.tree.map(lambda s, i=i: s[i], state), copy=True)(expected)
    np.testing.assert_allclose(chain(layers, X), expected, rtol=2e-5, atol=1e-6)
    gradient = nnx.grad(lambda layers: (chain(layers, X) ** 2).sum())(layers)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))


class LinenBlock(nn.Module):
    @nn.compact
    def __call__(self, x, _=None):
        x = jaxact.linen.PReLU(6)(nn.Dense(6)(x))
        x = jaxact.linen.Swish(6)(jaxact.linen.RReLU()(x))
        x = x + jaxact.linen.MLP(6, 12, activation="prelu")(x)
        x = x + jaxact.linen.GatedMLP(6, 12, activation="rrelu")(x)
        return jaxact.linen.Activation("leaky_relu:0.2")(x), None


@pytest.mark.slow
def test_linen_scan_of_remat():
    model = nn.scan(
        nn.remat(LinenBlock),
        variable_axes={"params": 0},
        split_rngs={"params": True, "rrelu": True},
        length=3,
    )()
    variables = model.init({"params": KEY, "rrelu": KEY}, X, None)
    assert variables["params"]["PReLU_0"]["alpha"].shape == (3, 6)
    slopes = variables["params"]["MLP_0"]["hidden_activation"]["layer"]["alpha"]
    assert slopes.shape == (3, 12)

    def loss(params, key):
        return (model.apply({"params": params}, X, None, rngs={"rrelu": key})[0] ** 2).sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(variables["params"], KEY)
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in jax.tree.leaves(gradient))
    assert (gradient["PReLU_0"]["alpha"] != 0).any()
    other, _ = jax.value_and_grad(loss)(variables["params"], jax.random.key(3))
    assert other != value
    # The slopes that the backward pass draws again are those of the forward pass.
    step = 1e-3
    moved = [
        loss(jax.tree.map(lambda p, s=s: p + s, variables["params"]), KEY) for s in (-step, step)
    ]
    slope = sum(jax.tree.leaves(jax.tree.map(jnp.sum, gradient)))
    np.testing.assert_allclose((moved[1] - moved[0]) / (2 * step), slope, rtol=0.02)


def test_linen_vmap():
    model = nn.vmap(
        jaxact.linen.PReLU, variable_axes={"params": 0}, split_rngs={"params": True}, axis_size=4
    )(6)
    x = jnp.broadcast_to(X, (4, *X.shape))
    variables = model.init(KEY, x)
    assert variables["params"]["alpha"].shape == (4, 6)
    np.testing.assert_array_equal(model.apply(variables, x)[2], jaxact.prelu(X, 0.25))


def test_tabulate():
    text = nnx.tabulate(Network(nnx.Rngs(0)), X, console_kwargs={"width": 200})
    for name in ("PReLU", "RReLU", "Swish", "MLP", "GatedMLP", "alpha: ", "kernel: "):
        assert name in text
    text = nn.tabulate(LinenBlock(), {"params": KEY, "rrelu": KEY}, console_kwargs={"width": 200})(
        X
    )
    for name in ("PReLU_0", "RReLU_0", "Swish_0", "MLP_0", "GatedMLP_0", "alpha", "gate"):
        assert name in text


# ------------------------------------------------------------------------------------------------
# Meshes, checkpoints


def mesh_of(shape, axis_type=AxisType.Auto):
    return jax.make_mesh(
        shape,
        ("data", "model"),
        axis_types=(axis_type,) * 2,
        devices=jax.devices()[: np.prod(shape)],
    )


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_slopes_are_sharded_with_their_channels(axis_type):
    with jax.set_mesh(mesh_of((2, 4), axis_type)):
        layers = [
            jaxact.nnx.PReLU(8, partitioning="model"),
            jaxact.nnx.Swish(8, partitioning="model"),
            jaxact.nnx.PReLU(
                8, slope_init=nnx.with_partitioning(nnx.initializers.constant(0.25), ("model",))
            ),
        ]
        for layer in layers:
            (parameter,) = jax.tree.leaves(
                nnx.state(layer), is_leaf=lambda leaf: isinstance(leaf, nnx.Param)
            )
            assert parameter.get_metadata()["out_sharding"] == ("model",)
            assert parameter[...].sharding.spec == P("model")
            assert layer(jnp.ones((3, 8))).shape == (3, 8)
        block = jaxact.nnx.MLP(8, 16, partitioning=("data", "model"), rngs=nnx.Rngs(0))
        specs = nnx.to_pure_dict(nnx.get_partition_spec(nnx.state(block)))
        specs = arguments_of(specs)
        assert {name: tuple(getattr(s, "get_value", lambda s=s: s)()) for name, s in specs.items()
        } == {
            "w_in": ("data", "model"), "b_in": ("model",),
            "w_out": ("model", "data"), "b_out": ("data",),
        }  # fmt: skip
    block = jaxact.linen.MLP(8, 16, partitioning=("data", "model"))
    specs = nn.get_partition_spec(block.init(KEY, jnp.ones((3, 8))))["params"]
    assert arguments_of(specs) == {
        "w_in": P("data", "model"), "b_in": P("model"),
        "w_out": P("model", "data"), "b_out": P("data"),
    }  # fmt: skip
    layer = jaxact.linen.PReLU(8, partitioning="model")
    variables = layer.init(KEY, jnp.ones((3, 8)))
    assert nn.get_partition_spec(variables)["params"]["alpha"] == P("model")
    assert layer.apply(variables, jnp.ones((3, 8))).shape == (3, 8)


def test_scanned_layers_are_sharded_too():
    with jax.set_mesh(mesh_of((2, 4))):

        @nnx.split_rngs(splits=3)
        @nnx.vmap(in_axes=0, out_axes=0, transform_metadata={nnx.PARTITION_NAME: None})
        def create(rngs):
            return jaxact.nnx.MLP(
                8, 16, activation="prelu", partitioning=("data", "model"), rngs=rngs
            )

        model = create(nnx.Rngs(0))
        alpha = model.hidden_activation.layer.alpha
        assert alpha.get_metadata()["out_sharding"] == (None, "model")


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_the_gradient_of_slopes_is_reduced_once(axis_type):
    """Channels over "model", samples over "data": one all-reduce, of the slopes' size."""
    mesh = mesh_of((2, 4), axis_type)
    with jax.set_mesh(mesh):
        layer = jaxact.nnx.PReLU(64, partitioning="model")
        graph, state = nnx.split(layer)
        x = jax.device_put(jnp.ones((16, 64)) * -1, NamedSharding(mesh, P("data", "model")))

        def loss(state, x):
            return nnx.merge(graph, state)(x)

        @jax.jit
        def gradient(state, x):
            y, pullback = jax.vjp(loss, state, x)
            return pullback(y)

        text = gradient.lower(state, x).compile().as_text()
        reductions = [line for line in text.splitlines() if " all-reduce(" in line]
        assert len(reductions) == 1 and "f32[16]" in reductions[0]
        for other in ("all-gather(", "all-to-all(", "collective-permute(", "reduce-scatter("):
            assert other not in text
        np.testing.assert_array_equal(gradient(state, x)[0]["alpha"][...], np.full(64, 16 * 0.25))


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("spec", [P("data"), P(None, "model"), P("model", "data")], ids=str)
def test_random_slopes_do_not_depend_on_the_mesh(spec, axis_type):
    mesh = mesh_of((2, 4), axis_type)
    expected = jaxact.nnx.RReLU(rngs=nnx.Rngs(3))(-jnp.ones((8, 16)))
    with jax.set_mesh(mesh):
        x = jax.device_put(-jnp.ones((8, 16)), NamedSharding(mesh, spec))
        y = nnx.jit(lambda layer, x: layer(x))(jaxact.nnx.RReLU(rngs=nnx.Rngs(3)), x)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.slow
def test_checkpoints_also_onto_another_mesh(tmp_path):
    def create(mesh):
        with jax.set_mesh(mesh):
            return jaxact.nnx.MLP(
                8, 16, activation="prelu:0.1", partitioning=("data", "model"), rngs=nnx.Rngs(5)
            )

    model = create(mesh_of((2, 4)))
    slopes = np.linspace(0.0, 0.5, 16, dtype=np.float32)
    model.hidden_activation.layer.alpha[...] = jnp.asarray(slopes)
    saved = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "model", saved)
    for shape in ((1, 1), (2, 4), (4, 2)):
        mesh = mesh_of(shape)
        other = create(mesh)
        graph, parameters, rest = nnx.split(other, nnx.Param, ...)
        target = jax.tree.map(
            lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=p.sharding),
            nnx.to_pure_dict(parameters),
        )
        with ocp.StandardCheckpointer() as checkpointer:
            restored = checkpointer.restore(tmp_path / "model", target)
        nnx.replace_by_pure_dict(parameters, restored)
        other = nnx.merge(graph, parameters, rest)
        alpha = other.hidden_activation.layer.alpha[...]
        np.testing.assert_array_equal(alpha, slopes)
        assert alpha.sharding.is_equivalent_to(NamedSharding(mesh, P("model")), 1)
        np.testing.assert_array_equal(other.linear_in.kernel[...], saved["linear_in"]["kernel"])


def test_keys_go_on_from_a_checkpoint(tmp_path):
    def create(seed):
        return nnx.Sequential(jaxact.nnx.PReLU(6), jaxact.nnx.RReLU(rngs=nnx.Rngs(seed)))

    model = create(1)
    model(X)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "model", nnx.to_pure_dict(nnx.state(model)))
    graph, state = nnx.split(create(2))
    target = jax.tree.map(ocp.utils.to_shape_dtype_struct, nnx.to_pure_dict(state))
    with ocp.StandardCheckpointer() as checkpointer:
        nnx.replace_by_pure_dict(state, checkpointer.restore(tmp_path / "model", target))
    np.testing.assert_array_equal(nnx.merge(graph, state)(X), model(X))


def test_weight_decay_leaves_xielu_alone():
    model = nnx.Sequential(nnx.Linear(2, 3, rngs=nnx.Rngs(0)), jaxact.nnx.XIELU(3))
    mask = nnx.to_pure_dict(jaxact.optim.decay_mask(nnx.state(model, nnx.Param)))
    assert mask["layers"][1] == {"alpha_n": False, "alpha_p": False}
    assert all(mask["layers"][0].values())


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", ["MLP", "GatedMLP"])
def test_blocks_that_keep_their_input(name, framework):
    """The same parameters and results; of each, x alone is kept beside the weights."""
    x = jnp.asarray(normal(3, (64, 4)))
    results, kept = [], []
    for save in ("pre", "input"):
        if framework == "nnx":
            layer = getattr(jaxact.nnx, name)(4, 32, save=save, rngs=nnx.Rngs(0))
            graph, state = nnx.split(layer)
            run = lambda state, x, graph=graph: nnx.merge(graph, state)(x)  # noqa: E731
        else:
            layer = getattr(jaxact.linen, name)(4, 32, save=save)
            state = layer.init(jax.random.key(0), x)
            run = layer.apply
        results.append(
            jax.value_and_grad(lambda *a, run=run: jnp.sin(run(*a)).sum(), (0, 1))(state, x)
        )
        kept.append([r.shape for r in jaxact.memory.residuals(run, state, x)].count((64, 32)))
    for a, b in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert kept == [1 + (name == "GatedMLP"), 0]
    make = getattr(FRAMEWORKS[framework], name)
    if framework == "nnx":
        bad = functools.partial(make, 4, 32, save="all", rngs=nnx.Rngs(0))
    else:
        bad = functools.partial(make(4, 32, save="all").init, jax.random.key(0), x)
    with pytest.raises(ValueError, match=f"^{name}: save must be 'pre' or 'input', got 'all'"):
        bad()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_layers_of_gate_and_up(framework):
    gate, up = jnp.array([0.5, 9.0]), jnp.array([-9.0, 2.0])
    name = "clamped_swiglu:limit=7,alpha=1.702,offset=1"
    layer = FRAMEWORKS[framework].Activation(name)
    run = layer if framework == "nnx" else functools.partial(layer.apply, {})
    expected = jaxact.clamped_swiglu(gate, up, limit=7.0, alpha=1.702, offset=1.0)
    np.testing.assert_array_equal(run(gate, up), expected)
    with pytest.raises(
        ValueError, match="^Activation: clamped_swiglu:.* takes two inputs; use Gat"
    ):
        run(gate)
    if framework == "nnx":
        bad = functools.partial(jaxact.nnx.MLP, 2, 4, activation="swiglu", rngs=nnx.Rngs(0))
    else:
        bad = functools.partial(
            jaxact.linen.MLP(2, 4, activation="swiglu").init, KEY, jnp.ones((1, 2))
        )
    with pytest.raises(ValueError, match="^MLP: swiglu takes two inputs, gate and up; use Gated"):
        bad()
    x = jnp.ones((3, 2))
    if framework == "nnx":
        y = jaxact.nnx.GatedMLP(2, 4, activation=name, rngs=nnx.Rngs(0))(x)
    else:
        y, _ = jaxact.linen.GatedMLP(2, 4, activation=name).init_with_output(KEY, x)
    assert y.shape == (3, 2) and jnp.isfinite(y).all()
