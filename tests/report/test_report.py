"""Reports that merge, are traced, or hold what the probe did not look into."""

import functools
import io
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from rich.console import Console

from jaxact._report.report import Report
from tests.support.reports import check, normal, of_relu, record, report


def test_merging_inside_jit_and_scan_and_vmap():
    x = normal(5, 12, 3)
    first = of_relu(jnp.asarray(x[0]))
    together = jax.jit(lambda a, b: a.merge(of_relu(b)))(first, x[1])
    check(together.sites[0], x[:2].reshape(-1, 3), -1)

    def step(total, x):
        return total.merge(of_relu(x)), total.sites[0].count[0]

    total, counts = jax.jit(lambda r, x: lax.scan(step, r, x))(first, x[1:])
    check(total.sites[0], x.reshape(-1, 3), -1)
    np.testing.assert_array_equal(counts, [12, 24, 36, 48])
    (site,) = jax.vmap(lambda a, b: of_relu(a).merge(of_relu(b)))(x[:2], x[2:4]).sites
    np.testing.assert_allclose(site.mean, x[:4].reshape(2, 2, 12, 3).mean((0, 2)), atol=1e-6)


def test_batches_of_other_sizes_merge():
    a, b = normal(9, 3), normal(2, 4, 3)
    merged = of_relu(jnp.asarray(a)).merge(of_relu(jnp.asarray(b)))
    check(merged.sites[0], np.concatenate([a, b.reshape(-1, 3)]), -1)


def test_reports_that_do_not_merge():
    one = report(record("relu", path="net"), record("gelu", 1))
    with pytest.raises(TypeError, match=r"Report.merge: other must be a Report, got None"):
        one.merge(None)
    with pytest.raises(ValueError, match="different models: 2 sites here, 1 there"):
        one.merge(report(record("relu", path="net")))
    with pytest.raises(
        ValueError, match=r"'net', 'relu', 100.* here is .*'net', 'elu', 100.* there"
    ):
        one.merge(report(record("elu", path="net"), record("gelu", 1)))
    with pytest.raises(ValueError, match="different models"):
        one.merge(report(record("relu", path="net"), record("gelu", 1, units=7)))


# ------------------------------------------------------------------------------------------------
# What is not known yet


@pytest.mark.parametrize("method", ["scalars", "plot", "advice", "__str__"])
@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, functools.partial(jax.jit, inline=True)])
def test_a_traced_report_has_no_figures(method, transform):
    def run(x):
        r = of_relu(x)
        assert repr(r) == "Report(1 site)"
        getattr(r, method)()

    with pytest.raises(
        TypeError, match="is computed on the host: return the report from jit first"
    ):
        transform(run)(jnp.ones((2, 8, 3)))


def test_shapes_have_no_figures():
    shapes = jax.eval_shape(of_relu, jax.ShapeDtypeStruct((8, 3), jnp.float32))
    with pytest.raises(TypeError, match=r"Report.scalars is computed on the host"):
        shapes.scalars()


# ------------------------------------------------------------------------------------------------
# What the probe did not look into


def looked_past(*counts, sites=()):
    return Report(sites, counts)


def flat(text):
    return " ".join(str(text).split())


def test_the_table_names_what_was_not_looked_into():
    r = looked_past(("custom_linear_solve", 1), ("ffi_call", 3), sites=(record(),))
    sentence = "over units and samples. Not looked into: custom_linear_solve (1), ffi_call (3)."
    assert flat(r).endswith(sentence)
    console = Console(file=io.StringIO(), width=80)
    console.print(r)
    assert flat(console.file.getvalue()).endswith(sentence)
    everything = looked_past(sites=(record(),))
    assert flat(everything).endswith("over units and samples.")
    assert r.scalars() == everything.scalars()


def test_the_table_without_rich_names_what_was_not_looked_into(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert str(looked_past(("ffi_call", 3))).endswith("samples. Not looked into: ffi_call (3).")


def test_advice_names_what_was_not_looked_into():
    def summary(*records):
        found = looked_past(("custom_linear_solve", 1), sites=records).advice()
        assert flat(found).endswith(flat(found.summary))
        return found.summary

    sentence = "Not looked into: custom_linear_solve (1)."
    assert summary() == f"No advice: the report has no sites. {sentence}"
    assert summary(record(dead=60)) == sentence
    assert summary(record("gelu")).endswith(f"pre-activations of a usual size. {sentence}")
    assert summary(record(samples=0)) == f"No advice: 1 site, and no samples. {sentence}"


def test_merged_reports_name_what_either_did_not_look_into():
    a, b = looked_past(("cholesky", 2), ("ffi_call", 1)), looked_past(("eigh", 1), ("ffi_call", 3))
    assert a.merge(b).not_looked_into == (("cholesky", 2), ("ffi_call", 3), ("eigh", 1))
    assert dict(b.merge(a).not_looked_into) == dict(a.merge(b).not_looked_into)
    assert a.merge(looked_past()).not_looked_into == a.not_looked_into
    # As the carry of a scan: of the same type after every step.
    assert a.merge(a).not_looked_into == a.not_looked_into
    assert jax.tree.structure(a) != jax.tree.structure(b)
    assert jax.jit(lambda r: r)(b).not_looked_into == b.not_looked_into
