"""How primitives call jaxprs: what is known of JAX's, and what is made of one that is not known."""

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import pallas
from jax.interpreters import mlir
from jax.sharding import AxisType, PartitionSpec

import jaxact
from jaxact._jaxprs.calls import CALLS, call_of, unknown
from jaxact._jaxprs.structure import as_function, consts_of, name_of, open_jaxpr

X = jnp.array([[-1.0, 2.0], [3.0, -4.0]])
MESH = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))


@jax.custom_jvp
def with_jvp(x, y):
    return jnp.sin(x) * y


with_jvp.defjvp(lambda primals, tangents: (with_jvp(*primals), tangents[0]))


@jax.custom_vjp
def with_vjp(x, y):
    return jnp.sin(x) * y


with_vjp.defvjp(lambda x, y: (with_vjp(x, y), x), lambda x, g: (g, g))


@jax.custom_batching.custom_vmap
def with_vmap(x, y):
    return jnp.sin(x) * y


with_vmap.def_vmap(lambda size, batched, x, y: (with_vmap(x, y), True))


def scan(x, y):
    return lax.scan(lambda carry, row: (carry + row * y[0], row), x[0], x)


def while_loop(x, y):
    """Condition and body read different arrays from outside."""
    return lax.while_loop(
        lambda i: (y[0, i] < 5) & (i < 1), lambda i: i + x.shape[0] * jnp.argmax(x), 0
    )


def cond(x, y):
    return lax.cond(x[0, 0] > 0, lambda y: y + 1, lambda y: jnp.sin(y), y)


def shard_map(x, y):
    spec = PartitionSpec("data")
    return jax.shard_map(lambda x, y: x + y, mesh=MESH, in_specs=spec, out_specs=spec)(x, y)


PROGRAMS = {
    "jit": jax.jit(lambda x, y: x + y),
    "scan": scan,
    "while": while_loop,
    "cond": cond,
    "checkpoint": jax.checkpoint(lambda x, y: jnp.sin(x) * y),
    "shard_map": shard_map,
    "custom_jvp_call": with_jvp,
    "custom_vjp_call": with_vjp,
    "custom_vmap_call": with_vmap,
}
#: What other versions of JAX call the same, and JAX with the flags of `tests.support.flags`.
OTHER_NAMES = {
    "jit": ["pjit"],
    "scan": ["Scan3"],
    "checkpoint": ["remat", "remat2", "RematTraced"],
    "custom_jvp_call": ["CustomJVPTraced"],
    "custom_vjp_call": ["custom_vjp_call_jaxpr", "CustomVJPTraced"],
}
#: Made by JAX's own transformations, or by nothing any more.
WITHOUT_PROGRAM = {"closed_call", "core_call", "eval_jaxpr"}


def equation_of(name):
    names = [name, *OTHER_NAMES.get(name, ())]
    equations = jax.make_jaxpr(PROGRAMS[name])(X, X + 0.5).jaxpr.eqns
    return next(e for e in equations if name_of(e) in names)


def test_every_known_call_has_a_program():
    covered = {*PROGRAMS, *WITHOUT_PROGRAM}.union(*OTHER_NAMES.values())
    assert covered == CALLS.keys()


@pytest.mark.parametrize("name", PROGRAMS)
def test_arguments_of_nested_jaxprs_are_among_the_operands(name):
    equation = equation_of(name)
    nested = call_of(equation).nested(equation)
    assert nested
    for jaxpr, operands in nested:
        arguments = open_jaxpr(jaxpr).invars
        assert len(arguments) == len(operands)
        scanned = name == "scan"
        for argument, position in zip(arguments, operands, strict=True):
            operand = equation.invars[position].aval
            shapes = [operand.shape]
            if scanned:  # A step sees a row.
                shapes.append(operand.shape[1:])
            if name == "shard_map":
                shapes.append((operand.shape[0] // 2, *operand.shape[1:]))
            assert argument.aval.dtype == operand.dtype
            assert argument.aval.shape in shapes


def test_condition_and_body_of_a_loop_have_constants_of_their_own():
    """Computed with the operands that the table says, they are what the loop computes."""
    traced = jax.make_jaxpr(while_loop)(X, X + 0.5)
    values = dict(zip(traced.jaxpr.invars, (X, X + 0.5), strict=True))
    position = [e.primitive.name for e in traced.jaxpr.eqns].index("while")
    equation = traced.jaxpr.eqns[position]
    inputs = [v.val if hasattr(v, "val") else values[v] for v in equation.invars]
    (condition, of_condition), (body, of_body) = call_of(equation).nested(equation)

    def run(jaxpr, operands, state):
        given = [inputs[i] for i in operands]
        given[-1] = state
        return as_function(open_jaxpr(jaxpr), consts_of(jaxpr))(*given)[0]

    state = jnp.int32(0)
    while run(condition, of_condition, state):
        state = run(body, of_body, state)
    assert state == while_loop(X, X + 0.5) == 4


# ------------------------------------------------------------------------------------------------
# Primitives that are not known.


def call_primitive(name, results):
    """A primitive that calls the jaxprs among its parameters one after the other."""
    primitive = jax.extend.core.Primitive(name)
    primitive.multiple_results = True

    def impl(*args, **jaxprs):
        return [y for jaxpr in jaxprs.values() for y in as_function(jaxpr)(*args)][:results]

    primitive.def_impl(impl)
    primitive.def_abstract_eval(
        lambda *args, **jaxprs: [a for j in jaxprs.values() for a in j.out_avals][:results]
    )
    mlir.register_lowering(primitive, mlir.lower_fun(impl, multiple_results=True))
    return primitive


CLEAR = call_primitive("clear_call", 1)
UNCLEAR = call_primitive("unclear_call", 1)


def clear(x):
    """One jaxpr, of the operands as they are."""
    (y,) = CLEAR.bind(x, body=jax.make_jaxpr(lambda x: jnp.maximum(x, 0) * 2)(x))
    return y


def unclear(x):
    """Two jaxprs: nothing tells which of them computes the result."""
    body = jax.make_jaxpr(lambda x: jnp.maximum(x, 0) * 2)(x)
    (y,) = UNCLEAR.bind(x, forward=body, other=body)
    return y


def solve(x):
    def dense(matvec, b):
        return jnp.linalg.solve(jax.jacobian(matvec)(b), b)

    return lax.custom_linear_solve(lambda v: (x + 9 * jnp.eye(2)) @ v, x[0], dense)


def kernel(x):
    def body(x, out):
        out[...] = x[...]

    shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
    return pallas.pallas_call(body, out_shape=shape, interpret=True)(x)


def test_an_unknown_call_of_one_jaxpr_is_looked_into():
    out, report = jaxact.probe(clear)(X)
    np.testing.assert_array_equal(out, 2 * jnp.maximum(X, 0))
    (site,) = report.sites
    assert site.function == "relu"
    np.testing.assert_array_equal(site.active, [0.5, 0.5])
    assert report.not_looked_into == ()


def test_what_cannot_be_made_again_is_not_swapped():
    with pytest.raises(
        ValueError, match=r"cannot replace 0: relu in .*: it is inside clear_call, so"
    ):
        jaxact.swap(clear, {"relu": jaxact.leaky_relu})(X)


def test_what_is_not_looked_into_is_named():
    def model(x):
        return unclear(jax.nn.relu(x)) + jax.jit(unclear)(x), solve(x)

    out, report = jaxact.probe(model)(X)
    jax.tree.map(np.testing.assert_array_equal, out, model(X))
    assert [site.function for site in report.sites] == ["relu"]
    named = (("custom_linear_solve", 1), ("unclear_call", 2))
    assert report.not_looked_into == named
    for text in (str(report), str(report.advice())):
        assert "Not looked into: custom_linear_solve (1), unclear_call (2)." in " ".join(
            text.split()
        )


class HalfRelu:
    """Says what an operation does, as JAX's newer ones do: by a method, without a jaxpr."""

    def __init__(self):
        self.params = {}

    def expand(self, x):
        return jnp.maximum(x, 0) / 2


def primitive_without_jaxprs(name, results, implementation):
    primitive = jax.extend.core.Primitive(name)
    primitive.multiple_results = True
    primitive.def_impl(implementation)
    primitive.def_abstract_eval(results)
    mlir.register_lowering(primitive, mlir.lower_fun(implementation, multiple_results=True))
    return primitive


OBJECT = primitive_without_jaxprs(
    "call_object", lambda x, what: [x], lambda x, what: [what.expand(x)]
)
CUSTOM = primitive_without_jaxprs(
    "custom_half_relu", lambda x, **_: [x], lambda x, **_: [jnp.maximum(x, 0) / 2]
)


def test_what_has_rules_of_its_own_and_no_jaxpr_is_named():
    def model(x):
        (half,) = OBJECT.bind(x, what=HalfRelu())
        (quarter,) = CUSTOM.bind(half, rule=jnp.sign)
        return jax.nn.relu(quarter)

    out, report = jax.jit(jaxact.probe(model))(X)
    np.testing.assert_array_equal(out, jnp.maximum(X, 0) / 4)
    assert [site.function for site in report.sites] == ["relu"]
    assert report.not_looked_into == (("HalfRelu", 1), ("custom_half_relu", 1))
    assert "Not looked into: HalfRelu (1), custom_half_relu (1)." in " ".join(str(report).split())


def test_kernels_are_not_looked_into():
    (equation,) = jax.make_jaxpr(kernel)(X).jaxpr.eqns
    assert unknown(equation)
    _, report = jaxact.probe(kernel)(X)
    assert report.not_looked_into == (("pallas_call", 1),)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x.at[0].add(1.0),
        lambda x: lax.reduce(x, jnp.float32(0), lambda a, b: a + b * 2, (0,)),
        lambda x: lax.reduce_window(
            x, jnp.float32(0), lambda a, b: a + b * 2, (2, 2), (1, 1), "VALID"
        ),
        lambda x: jnp.sort(x),
        lambda x: jnp.cumsum(x, 0),
    ],
    ids=["scatter", "reduce", "reduce_window", "sort", "cumsum"],
)
def test_what_combines_single_elements_has_no_activation(f):
    _, report = jaxact.probe(f)(X)
    assert report.sites == report.not_looked_into == ()
