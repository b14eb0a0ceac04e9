"""Random slopes: the generator, their distribution, and their independence of the sharding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import jaxact
from jaxact._core import threefry
from tests.support.samples import normal

ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        # The published known-answer vectors of Random123 for threefry2x32 with 20 rounds.
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((ONES, ONES), (ONES, ONES), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(counter, key, expected):
    words = [tuple(jnp.uint32(word) for word in pair) for pair in (key, counter)]
    assert tuple(int(word) for word in threefry.threefry2x32(*words)) == expected


def slopes(x, key, **bounds):
    return jaxact.rrelu(x, key, **bounds) / x


def test_slope_of_an_element_follows_from_key_and_index():
    key = jax.random.key(3)
    words = jax.random.key_data(key)
    x = -jnp.ones((3, 5))
    first, _ = threefry.threefry2x32(
        (words[0], words[1]), (jnp.zeros(15, jnp.uint32), jnp.arange(15, dtype=jnp.uint32))
    )
    u = np.asarray(first >> jnp.uint32(8)).astype(np.float64) / 2**24
    expected = 0.125 + (1 / 3 - 0.125) * u
    np.testing.assert_allclose(slopes(x, key).ravel(), expected, rtol=2e-7)
    # Row-major: the same whatever the shape.
    np.testing.assert_array_equal(slopes(x.ravel(), key), slopes(x, key).ravel())
    np.testing.assert_array_equal(slopes(x[None, :, None], key).ravel(), slopes(x, key).ravel())


def test_float64_uses_53_bits():
    with jax.enable_x64(True):
        u = threefry.uniform(jnp.array([1, 2], jnp.uint32), jnp.zeros(1000, jnp.float64))
    scaled = np.asarray(u) * 2.0**53
    np.testing.assert_array_equal(scaled, np.round(scaled))
    assert (scaled % 2**29 != 0).all()
    assert scipy.stats.kstest(u, "uniform").pvalue > 1e-3


def test_distribution():
    u = (slopes(-jnp.ones(1 << 20), jax.random.key(0), lower=0.2, upper=0.7) - 0.2) / 0.5
    assert scipy.stats.kstest(np.asarray(u, np.float64), "uniform").pvalue > 1e-3
    lag = np.corrcoef(u[:-1], u[1:])[0, 1]
    assert abs(lag) < 5 / np.sqrt(u.size)


@pytest.mark.parametrize(("lower", "upper"), [(1 / 8, 1 / 3), (0.3, 0.3), (1.0, 1.0000001), (0, 1)])
def test_slopes_are_in_the_half_open_interval(lower, upper):
    a = slopes(-jnp.ones(1 << 18), jax.random.key(1), lower=lower, upper=upper)
    low, high = np.float32(lower), np.float32(upper)
    assert a.min() >= low
    assert a.max() < high if low < high else a.max() == high


def test_positive_inputs_pass():
    x = jnp.array([0.0, 1.0, jnp.inf])
    np.testing.assert_array_equal(jaxact.rrelu(x, jax.random.key(0)), x)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_keys_of_every_generator_typed_and_raw(impl):
    x = -jnp.ones(64)
    typed = jax.random.key(5, impl=impl)
    a = slopes(x, typed)
    assert len(np.unique(a)) > 60
    assert not np.array_equal(a, slopes(x, jax.random.key(6, impl=impl)))
    if impl != "unsafe_rbg":  # a raw key of four words is taken for one of rbg
        np.testing.assert_array_equal(a, slopes(x, jax.random.key_data(typed)))
        np.testing.assert_array_equal(a, slopes(x, np.asarray(jax.random.key_data(typed))))


def test_vmap_over_keys_and_inputs():
    x = -jnp.ones((4, 16))
    keys = jax.random.split(jax.random.key(0), 4)
    each = jnp.stack([jaxact.rrelu(x[i], keys[i]) for i in range(4)])
    np.testing.assert_array_equal(jax.vmap(jaxact.rrelu)(x, keys), each)
    np.testing.assert_array_equal(jax.vmap(jaxact.rrelu, (None, 0))(x[0], keys), each)
    same = jax.vmap(jaxact.rrelu, (0, None))(x, keys[0])
    np.testing.assert_array_equal(same, jnp.broadcast_to(each[:1], same.shape))


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("spec", [P("a", "b"), P("b", "a"), P(("a", "b")), P(None, "a"), P()])
def test_slopes_do_not_depend_on_the_sharding(spec, axis_type):
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(axis_type,) * 2)
    x = normal(0, (16, 24))
    key = jax.random.key(9)

    @jax.jit
    def value_and_gradient(x):
        y, pullback = jax.vjp(lambda x: jaxact.rrelu(x, key), x)
        return y, pullback(y)[0]

    expected = value_and_gradient(x)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, NamedSharding(mesh, spec))
        compiled = value_and_gradient.lower(sharded).compile()
        result = value_and_gradient(sharded)
    for a, b in zip(result, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    for collective in ("all-gather", "all-reduce", "all-to-all", "collective-permute"):
        assert collective not in compiled.as_text()


# The last rows, and those where the low word of the index wraps round.
@pytest.mark.parametrize(("first", "row"), [(2, (1 << 32) + 2), (0, (1 << 32) // 7 - 1)])
def test_wide_indices(first, row):
    """Arrays of more than 2^32 elements: abstractly large, looked at in a few places."""
    shape = (3, (1 << 32) + 5, 7)

    @jax.jit
    def words():
        start, limit = (first, row, 5), (first + 1, row + 3, 7)
        return [
            lax.slice(word, start, limit)[0]
            for word in threefry._indices(jnp.zeros(shape, jnp.int8))
        ]

    high, low = words()
    index = np.asarray(high).astype(object) * 2**32 + np.asarray(low).astype(object)
    i, j = np.meshgrid(range(row, row + 3), range(5, 7), indexing="ij")
    expected = ((first * shape[1] + i.astype(object)) * shape[2]) + j
    np.testing.assert_array_equal(index, expected)


def test_multiply_wide():
    rng = np.random.default_rng(0)
    for _ in range(100):
        x, factor = (int(v) for v in rng.integers(0, 2**63, 2))
        high, low = threefry.multiply_wide(threefry._words(x), threefry._words(factor))
        assert int(high) << 32 | int(low) == x * factor % 2**64


def test_the_mean_slope_is_used_without_a_key():
    y = jaxact.rrelu(jnp.array([-1.0, 2.0]), lower=0.1, upper=0.3, deterministic=True)
    np.testing.assert_allclose(y, [-0.2, 2.0], rtol=1e-6)


def test_matches_the_gradient_of_its_slopes():
    x = normal(2, (1000,))
    key = jax.random.key(4)
    a = slopes(-jnp.ones_like(x), key)
    np.testing.assert_array_equal(
        jax.grad(lambda x: jaxact.rrelu(x, key).sum())(x), jnp.where(x < 0, a, 1)
    )


def test_divisor_is_the_papers_distribution():
    """x / a, a ~ U(3, 8), and a = 5.5 where deterministic."""
    x = -jnp.ones(100_000)
    a = -1 / np.asarray(jaxact.rrelu(x, jax.random.key(5), divisor=True), np.float64)
    assert scipy.stats.kstest((a - 3) / 5, "uniform").pvalue > 1e-3
    assert a.min() >= 3 - 1e-6 and a.max() <= 8 + 1e-6
    np.testing.assert_allclose(jaxact.rrelu(x[:1], deterministic=True, divisor=True), -2 / 11)
    # The gradient draws the same divisors again.
    y, pullback = jax.vjp(lambda x: jaxact.rrelu(x, jax.random.key(5), divisor=True), x)
    np.testing.assert_array_equal(pullback(x)[0], y)


def test_bounds_that_cannot_be_used():
    with pytest.raises(ValueError, match="^rrelu: upper must be finite, got inf"):
        jaxact.rrelu(-1.0, jax.random.key(0), 0.1, np.inf)
    with pytest.raises(TypeError, match="^rrelu: divisor must be True or False, got 'no'"):
        jaxact.rrelu(-1.0, jax.random.key(0), divisor="no")
    # Their sum overflows, their mean does not.
    assert jaxact.rrelu(-1.0, lower=2e38, upper=3e38, deterministic=True) == np.float32(-2.5e38)


@pytest.mark.parametrize(("lower", "upper"), [(0.0, 0.3), (-0.1, 0.3), (1e-40, 0.3)])
def test_divisor_needs_positive_bounds(lower, upper):
    with pytest.raises(ValueError, match="^rrelu: lower must be positive to divide"):
        jaxact.rrelu(-1.0, jax.random.key(0), lower, upper, divisor=True)
