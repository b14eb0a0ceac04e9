"""The report of a probe inside a device's step, summed over the devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec as P

import jaxact
from tests.support.reports import check, normal

W = normal(6, 5, seed=1)
X = normal(16, 6, loc=0.3)


def model(w, x):
    return jax.nn.relu(x @ w)


def looked(w, x, axes):
    return jaxact.probe(model)(w, x)[1].psum(axes)


def mesh(*lengths):
    names = ("data", "other")[: len(lengths)]
    return jax.make_mesh(lengths, names, axis_types=(AxisType.Auto,) * len(lengths))


def shard_mapped(check_vma):
    def whole(w, x):
        return jax.shard_map(
            lambda w, x: looked(w, x, "data"),
            mesh=mesh(4),
            in_specs=(P(), P("data")),
            out_specs=P(),
            check_vma=check_vma,
        )(w, x)

    return jax.jit(whole)


def shard_mapped_twice(w, x):
    return jax.shard_map(
        lambda w, x: looked(w, x, ("data", "other")),
        mesh=mesh(4, 2),
        in_specs=(P(), P(("data", "other"))),
        out_specs=P(),
    )(w, x)


def vmapped(w, x):
    x = x.reshape(4, 4, 6)
    return jax.vmap(lambda x: looked(w, x, ["data"]), axis_name="data", out_axes=None)(x)


def pmapped(w, x):
    x = x.reshape(4, 4, 6)
    return jax.pmap(lambda x: looked(w, x, "data"), axis_name="data", out_axes=None)(x)


WAYS = {
    "shard_map": shard_mapped(True),
    "shard_map, unchecked": shard_mapped(False),
    "two axes": jax.jit(shard_mapped_twice),
    "vmap": jax.jit(vmapped),
    **({"pmap": pmapped} if hasattr(jax, "pmap") else {}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore:.*pmap.*:DeprecationWarning")
def test_counts_are_those_of_the_whole_batch(way):
    (site,) = WAYS[way](W, X).sites
    check(site, X @ W, -1, peak=1e-6)
    (whole,) = jaxact.probe(model)(W, X)[1].sites
    np.testing.assert_array_equal(site.active_upper, whole.active_upper)
    assert site.histogram.sum() == X.shape[0] * W.shape[1]


def test_without_it_they_are_the_shards():
    def step(w, x):
        report = jaxact.probe(model)(w, x)[1]
        return jax.tree.map(lambda leaf: leaf[None], report)

    (site,) = jax.jit(
        jax.shard_map(step, mesh=mesh(4), in_specs=(P(), P("data")), out_specs=P("data"))
    )(W, X).sites
    assert site.count.tolist() == [[4] * 5] * 4


def test_a_training_step_on_devices():
    """As users write it: loss and gradients of a shard, means over the devices."""

    def step(w, x):
        def loss(w):
            out, report = jaxact.probe(model)(w, x)
            return (out**2).mean(), report

        (value, report), gradient = jax.value_and_grad(loss, has_aux=True)(
            jax.lax.pcast(w, "data", to="varying")
        )
        return jax.lax.pmean((value, gradient), "data"), report.psum("data")

    run = jax.jit(jax.shard_map(step, mesh=mesh(4), in_specs=(P(), P("data")), out_specs=P()))
    (_, gradient), report = run(W, X)
    check(report.sites[0], X @ W, -1, peak=1e-6)
    expected = jax.grad(lambda w: (model(w, X) ** 2).mean())(W)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5)


def test_what_is_the_same_on_all_devices_counts_once():
    def step(w, x):
        once = jaxact.probe(model)(w, w.T[:, :1] * jnp.ones((1, 6)))[1].psum("data")
        shard = looked(w, x, "data")
        return once, shard, shard.psum("data")

    once, shard, again = jax.jit(
        jax.shard_map(step, mesh=mesh(4), in_specs=(P(), P("data")), out_specs=P())
    )(W, X)
    assert [r.sites[0].count[0] for r in (once, shard, again)] == [5, 16, 16]


def test_no_axis_of_that_name():
    _, report = jaxact.probe(model)(W, X)
    with pytest.raises(NameError, match=r"Report.psum: there is no axis 'batch' here\. Call it in"):
        report.psum("batch")
    with pytest.raises(NameError, match="no axis 'model' here"):
        jax.vmap(lambda x: looked(W, x, ("data", "model")), axis_name="data")(X[:, None])
