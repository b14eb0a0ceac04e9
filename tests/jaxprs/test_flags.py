"""With JAX's flags for its next version, in one process with what was traced without them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxact
import jaxact.memory
from tests.support.flags import FLAGS, flags
from tests.support.samples import normal

X, W = normal(0, (6, 8)), normal(1, (8, 8)) / 2
REVERSE = [name for name in FLAGS if name != "scan3"]
SETTINGS = list(dict.fromkeys([(), *((name,) for name in REVERSE), tuple(REVERSE)]))
each_setting = pytest.mark.parametrize("setting", SETTINGS, ids=lambda s: "+".join(s) or "none")

FUNCTIONS = [
    (jax.nn.relu, "relu"),
    (jax.nn.relu6, "relu6"),
    (jax.nn.softplus, "softplus"),
    (jax.nn.mish, "mish"),
    (jax.nn.silu, "silu"),
    (jax.nn.elu, "elu"),
    (jax.nn.leaky_relu, "leaky_relu"),
    (jax.nn.gelu, "gelu"),
    (jaxact.relu, "relu"),
    (jaxact.gelu, "gelu"),
    (jaxact.leaky_relu, "leaky_relu"),
]


@each_setting
def test_activations_are_found_by_their_names(setting):
    def model(x):
        for function, _ in FUNCTIONS:
            x = function(x @ W)
        return x

    with flags(*setting):
        for transformed in (model, jax.jit(model), jax.checkpoint(model), jax.vmap(model)):
            _, report = jax.eval_shape(jaxact.probe(transformed), X)
            found = [record.place.function for record in report.records]
            assert found == [name for _, name in FUNCTIONS]
            assert report.not_looked_into == ()


@each_setting
def test_swapped_functions_and_blocks_have_the_derivatives_of_what_is_written(setting):
    def model(activation, w, x):
        def layer(h, w):
            return activation(h @ w), None

        h, _ = lax.scan(jax.checkpoint(layer), x, jnp.stack([w, w]))
        return (jaxact.mlp(h, w, w, activation=activation) ** 2).sum()

    def old(w, x):
        return model(jax.nn.relu, w, x)

    def written(w, x):
        return model(jaxact.leaky_relu, w, x)

    swapped = jaxact.swap(old, {"relu": jaxact.leaky_relu})
    expected = jax.jit(jax.value_and_grad(written))(W, X)
    with flags(*setting):
        found = jax.jit(jax.value_and_grad(swapped))(W, X)
        assert len(jaxact.probe(old)(W, X)[1].records) == 2
        np.testing.assert_array_equal(
            jax.hessian(jaxact.silu)(jnp.float32(0.5)),
            jax.jacrev(jax.grad(jaxact.silu))(jnp.float32(0.5)),
        )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected
    )


@each_setting
def test_what_the_backward_pass_keeps_is_known(setting):
    with flags(*setting):
        kept = jaxact.memory.residuals(lambda x: jaxact.silu(x @ W).sum(), X)
    computed = [r for r in kept if r.origin == "computed"]
    assert [(r.activation, r.shape) for r in computed] == [("silu", X.shape)]


@pytest.mark.parametrize("others", [(), tuple(REVERSE)], ids=["alone", "with the others"])
def test_activations_in_the_next_scan(others):
    """Where JAX computes with it: forward, outside of jit."""

    def model(w, x):
        return lax.scan(lambda h, w: (jax.nn.relu(h @ w), h.sum()), x, jnp.stack([w, -w]))

    with flags("scan3", *others):
        out, report = jaxact.probe(model)(W, X)
        swapped = jaxact.swap(model, {"relu": jax.nn.silu})(W, X)
    h, total = X, []
    s, smooth = X, []
    for w in (W, -W):
        total.append(h.sum())
        smooth.append(s.sum())
        h, s = jax.nn.relu(h @ w), jax.nn.silu(s @ w)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
        (out, swapped),
        ((h, jnp.stack(total)), (s, jnp.stack(smooth))),
    )
    assert [(site.function, site.iteration) for site in report.sites] == [
        ("relu", (0,)),
        ("relu", (1,)),
    ]
