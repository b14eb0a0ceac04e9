"""Samplers, variational inference, flows, filters and Laplace approximations of networks."""

import warnings

import blackjax
import flowjax.distributions
import flowjax.flows
import flowjax.train
import jax
import jax.numpy as jnp
import laplax
import numpyro
import numpyro.distributions as dist
import pytest
import tinygp
from jax.flatten_util import ravel_pytree
from matfree import decomp, funm, stochtrace

from tests.support.programs import WIDTH, activation, apply, check, network, normal

with warnings.catch_warnings():
    # Of a private name of JAX's, as they are imported.
    warnings.simplefilter("ignore", DeprecationWarning)
    import distrax
    import dynamax.nonlinear_gaussian_ssm as dynamax


def bayesian_network(act):
    """numpyro's regression with a hidden layer."""

    def model(x, y=None):
        w = numpyro.sample("w", dist.Normal(0, 1).expand([2, WIDTH]).to_event(2))
        v = numpyro.sample("v", dist.Normal(0, 1).expand([WIDTH]).to_event(1))
        numpyro.sample("y", dist.Normal(act(x @ w) @ v, 0.5), obs=y)

    return model


@pytest.mark.parametrize("kernel", ["NUTS", "HMC", "NUTS by forward mode"])
def test_numpyro_mcmc(kernel):
    forward = kernel.endswith("mode")

    def program(nn):
        act = activation(nn, "tanh" if kernel == "HMC" else "silu")
        sampler = getattr(numpyro.infer, kernel.split()[0])(
            bayesian_network(act), forward_mode_differentiation=forward
        )
        mcmc = numpyro.infer.MCMC(sampler, num_warmup=3, num_samples=3, progress_bar=False)
        mcmc.run(jax.random.key(0), normal(16, 2), normal(16, seed=1))
        return mcmc.get_samples()

    # Leapfrog steps let rounding errors grow.
    check(program, forward=forward, x64=True, rtol=1e-6)


@pytest.mark.parametrize("guide", ["AutoNormal", "AutoLaplaceApproximation"])
def test_numpyro_svi(guide):
    def program(nn):
        model = bayesian_network(activation(nn, "gelu"))
        automatic = getattr(numpyro.infer.autoguide, guide)(model)
        svi = numpyro.infer.SVI(
            model, automatic, numpyro.optim.Adam(0.01), numpyro.infer.Trace_ELBO()
        )
        result = svi.run(
            jax.random.key(0), 10, normal(16, 2), normal(16, seed=1), progress_bar=False
        )
        # AutoLaplaceApproximation's covariance is an inverse Hessian.
        samples = automatic.sample_posterior(jax.random.key(1), result.params, sample_shape=(2,))
        return result.params, result.losses, samples

    check(program, x64=True, rtol=1e-6)


SAMPLERS = {
    "nuts": lambda f: blackjax.nuts(f, 0.05, jnp.ones(3 * WIDTH), max_num_doublings=4),
    "mala": lambda f: blackjax.mala(f, 1e-3),
    "hmc": lambda f: blackjax.hmc(f, 0.05, jnp.ones(3 * WIDTH), 5),
    "barker": lambda f: blackjax.barker(f, 0.05),
    "mclmc": lambda f: blackjax.mclmc(f, 1.0, 0.05),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_blackjax(sampler):
    def program(nn):
        act = activation(nn, {"nuts": "softplus", "mala": "relu"}.get(sampler, "mish"))
        flat, unravel = ravel_pytree({"w": normal(2, WIDTH), "v": normal(WIDTH)})
        x, y = normal(16, 2), normal(16, seed=1)

        def log_density(flat):
            p = unravel(flat)
            return -((act(x @ p["w"]) @ p["v"] - y) ** 2).sum() - 0.5 * (flat**2).sum()

        algorithm = SAMPLERS[sampler](log_density)
        start = algorithm.init(flat, jax.random.key(0))

        @jax.jit
        def run(state):
            keys = jax.random.split(jax.random.key(1), 3)
            step = lambda state, key: (algorithm.step(key, state)[0], None)  # noqa: E731
            return jax.lax.scan(step, state, keys)[0]

        return run(start).position

    check(program, x64=True, rtol=1e-6)


def test_blackjax_riemannian():
    """RMHMC: the metric is a Gauss-Newton matrix, which the sampler differentiates."""

    def program(nn):
        def model(p):
            return nn.softplus(normal(8, 2) @ p)

        def log_density(p):
            return -((model(p) - normal(8, seed=1)) ** 2).sum()

        def metric(p):
            jacobian = jax.jacfwd(model)(p)
            return jacobian.T @ jacobian + jnp.eye(2)

        algorithm = blackjax.rmhmc(log_density, 0.05, metric, 3)
        state = algorithm.init(normal(2))
        return jax.jit(lambda s: algorithm.step(jax.random.key(0), s)[0])(state).position

    check(program, forward=True, x64=True, rtol=1e-6)


@pytest.mark.parametrize("flow", ["coupling_flow"])
def test_flowjax(flow):
    def program(nn):
        build = getattr(flowjax.flows, flow)
        model = build(
            jax.random.key(0),
            base_dist=flowjax.distributions.Normal(jnp.zeros(2)),
            flow_layers=2,
            nn_width=8,
            nn_activation=nn.silu if flow.startswith("masked") else nn.leaky_relu,
            **({} if flow.startswith("masked") else {"transformer": None}),
        )
        model, losses = flowjax.train.fit_to_data(
            jax.random.key(1), model, normal(40, 2), max_epochs=2, batch_size=20,
            show_progress=False,
        )  # fmt: skip
        return model.log_prob(normal(5, 2, seed=3)), jnp.asarray(losses["train"])

    check(program, x64=True)


def test_distrax():
    """A masked coupling with a network for its scale, and the density's gradient."""

    def program(nn):
        @jax.jit
        @jax.value_and_grad
        def loss(params):
            flow = distrax.MaskedCoupling(
                mask=jnp.arange(2) % 2 == 0,
                conditioner=lambda x: apply(params, x, nn.hard_tanh),
                bijector=lambda p: distrax.ScalarAffine(
                    p[..., :2], log_scale=nn.soft_sign(p[..., 2:])
                ),
            )
            base = distrax.Independent(distrax.Normal(jnp.zeros(2), jnp.ones(2)), 1)
            return -distrax.Transformed(base, flow).log_prob(normal(16, 2)).mean()

        return loss(network((2, WIDTH, 4)))

    check(program)


def test_dynamax():
    """The extended Kalman filter linearizes the dynamics by jacfwd; the likelihood's gradient."""

    def program(nn):
        @jax.jit
        @jax.value_and_grad
        def loss(params):
            model = dynamax.ParamsNLGSSM(
                initial_mean=jnp.zeros(2),
                initial_covariance=jnp.eye(2),
                dynamics_function=lambda x: apply(params, x, nn.tanh),
                dynamics_covariance=0.1 * jnp.eye(2),
                emission_function=lambda x: nn.softplus(x),
                emission_covariance=0.1 * jnp.eye(2),
            )
            return -dynamax.extended_kalman_filter(model, normal(6, 2)).marginal_loglik

        return loss(network((2, WIDTH, 2)))

    check(program, forward=True, x64=True)


def test_tinygp():
    """A Gaussian process on a network's features."""

    def program(nn):
        @jax.jit
        @jax.value_and_grad
        def loss(params):
            features = lambda x: apply(params, x, nn.celu)  # noqa: E731
            kernel = tinygp.transforms.Transform(features, tinygp.kernels.ExpSquared())
            process = tinygp.GaussianProcess(kernel, normal(12, 2), diag=0.1)
            return -process.log_probability(normal(12, seed=1))

        return loss(network((2, WIDTH, 2)))

    check(program, x64=True)


@pytest.mark.parametrize("name", ["gelu:exact", "glu"])
def test_laplax(name):
    """Products with the Gauss-Newton matrix of a data set."""

    def program(nn):
        act = activation(nn, name)
        params = network((2, WIDTH, 1))
        data = {"input": normal(8, 2), "target": normal(8, 1, seed=1)}
        product = laplax.curv.create_ggn_mv(
            lambda input, params: apply(params, input, act), params, data, loss_fn="mse"
        )
        return jax.jit(product)(jax.tree.map(jnp.ones_like, params))

    check(program, forward=True)


def test_matfree_log_determinant():
    """Of a Gauss-Newton matrix, by stochastic Lanczos quadrature; and its gradient."""

    def program(nn):
        flat, unravel = ravel_pytree(network((2, WIDTH, 1)))
        model = lambda p: apply(unravel(p), normal(8, 2), nn.swish).ravel()  # noqa: E731

        def product(v, p):
            return jax.vjp(model, p)[1](jax.jvp(model, (p,), (v,))[1])[0] + 0.5 * v

        integrand = funm.monte_carlo_funm_sym_logdet(decomp.tridiag_sym(5))
        estimate = stochtrace.estimator_monte_carlo(
            integrand, stochtrace.sampler_signs(flat, num=4)
        )
        return jax.jit(jax.value_and_grad(lambda p: estimate(product, jax.random.key(0), p)))(flat)

    check(program, forward=True, x64=True)


def test_matfree_trace_of_a_hessian():
    def program(nn):
        flat, unravel = ravel_pytree(network((2, WIDTH, 1)))
        loss = lambda p: (apply(unravel(p), normal(8, 2), nn.log_sigmoid) ** 2).mean()  # noqa: E731
        product = lambda v, p: jax.jvp(jax.grad(loss), (p,), (v,))[1]  # noqa: E731
        estimate = stochtrace.estimator_monte_carlo(
            stochtrace.monte_carlo_trace(), stochtrace.sampler_signs(flat, num=8)
        )
        return jax.jit(lambda p: estimate(product, jax.random.key(0), p))(flat)

    check(program)
