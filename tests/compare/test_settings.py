"""What can be asked, and into which cells it is laid out."""

import dataclasses

import pytest

from jaxact._errors import CompareError
from jaxact.compare.settings import Settings, read_sweep
from jaxact.compare.study import Cell, Sweep
from jaxact.compare.training import programs

TINY = Settings(activations=("relu",), seeds=3, epochs=3, widths=(6, 5), batch_size=16)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("lr=1e-4..1e-1:4", (1e-4, 1e-3, 1e-2, 1e-1)),
        ("lr=1e-3..1e-1:5", (0.001, 0.00316, 0.01, 0.0316, 0.1)),
        ("negative_slope=0,0.01,0.2", (0.0, 0.01, 0.2)),
        ("negative_slope=0..0.4:3", (0.0, 0.2, 0.4)),
        ("negative_slope=-0.1..0.1:3", (-0.1, 0.0, 0.1)),
        ("alpha=.5..1.5:3", (0.5, 1.0, 1.5)),
        ("width=8,16,32", (8, 16, 32)),
        ("width=8..128:5", (8, 16, 32, 64, 128)),
        ("depth= 1, 2", (1, 2)),
        ("dtype=float32,bfloat16", ("float32", "bfloat16")),
    ],
)
def test_sweeps_are_read(text, values):
    assert read_sweep(text) == Sweep(text.partition("=")[0], values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr", r"must be NAME=VALUES; write for example --sweep lr=1e-4\.\.1e-1:7"),
        ("=3", "must be NAME=VALUES"),
        ("lr=", "must be NAME=VALUES"),
        ("lr=fast", "could not convert string to float: 'fast'"),
        ("lr=1e-1..1e-4:7", "from a smaller to a larger number"),
        ("lr=1e-4..1e-1:1", "in 2 to 1000 values"),
        ("lr=1e-4..1e-1:x", "invalid literal"),
        ("lr=1e-4..inf:3", "from a smaller to a larger number"),
        ("width=1.5", "'1.5' is no whole number"),
        ("width=-3", "'-3' is no whole number"),
    ],
)
def test_sweeps_that_cannot_be_read(text, message):
    with pytest.raises(CompareError, match=message):
        read_sweep(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 0}, "seeds must be at least 1, got 0"),
        ({"splits": 0}, "splits must be at least 1, got 0"),
        ({"epochs": -1}, "epochs must be at least 1, got -1"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"widths": (8, 0)}, "widths must be at least 1, .* got 8,0"),
        ({"widths": ()}, "one or more hidden layers; got none"),
        ({"learning_rate": 0.0}, "learning rate must be positive and finite, got 0"),
        ({"learning_rate": float("nan")}, "learning rate must be positive and finite, got nan"),
        ({"tune": (0.1, float("inf"))}, "learning rate must be positive and finite, got inf"),
        ({"tune": (0.1, 0.1)}, "tune has a learning rate twice: 0.1,0.1"),
        ({"dtype": "float8"}, "dtype must be one of float32, bfloat16, float16; got 'float8'"),
        ({"margin": -0.1}, "margin must not be negative, got -0.1"),
        ({"model": "rnn"}, "model must be mlp, cnn or module:factory; got 'rnn'"),
        ({"replace": "relu"}, "replace is for models of yours"),
        ({"activations": ()}, "no activation is given"),
        ({"activations": ("relu", "")}, "the list of activations has an empty name"),
        ({"activations": ("relu", "elu", "relu")}, "activation 'relu' is given twice"),
        ({"activations": ("relu", "gelo")}, "unknown activation 'gelo'. Did you mean 'gelu'"),
        # The same function in other spellings.
        (
            {"activations": ("leaky_relu", "leaky_relu:0.01")},
            "'leaky_relu:0.01' is 'leaky_relu' in another spelling",
        ),
        ({"activations": ("silu", "swish")}, "'swish' is 'silu' in another spelling"),
        ({"activations": ("prelu", "prelu:0.25")}, "is 'prelu' in another spelling"),
        ({"activations": ("gelu:true", "gelu")}, "'gelu' is 'gelu:true' in another spelling"),
        (
            {"activations": ("elu:1", "elu:alpha=1.0")},
            "'elu:alpha=1.0' is 'elu:1' in another spelling",
        ),
        (
            {
                "activations": ("leaky_relu", "leaky_relu:0.1"),
                "sweeps": (Sweep("negative_slope", (0.1, 0.2)),),
            },
            "are the same activation",
        ),
        ({"sweeps": (Sweep("lr", (0.1,)), Sweep("lr", (0.2,)))}, "lr is swept twice"),
        ({"sweeps": (Sweep("lr", (0.1, 0.1)),)}, "must be one or more values, each once"),
        ({"sweeps": (Sweep("lr", ()),)}, "must be one or more values"),
        ({"sweeps": (Sweep("lr", (0.1, -1.0)),)}, "learning rate must be positive"),
        ({"sweeps": (Sweep("width", (0,)),)}, "must be whole numbers, at least 1"),
        ({"sweeps": (Sweep("dtype", ("float8",)),)}, "must be of float32, bfloat16, float16"),
        ({"sweeps": (Sweep("slope", (0.1,)),)}, "there is no such axis. There are lr, width"),
        ({"sweeps": (Sweep("negative_slope", (0.1,)),)}, "compared no parameter"),
        (
            {
                "activations": ("relu", "leaky_relu"),
                "sweeps": (Sweep("negative_slope", (float("nan"),)),),
            },
            "must be finite numbers",
        ),
        ({"sweeps": (Sweep("lr", (0.1,)),), "tune": (0.1, 0.2)}, "lr is swept and tuned at once"),
        ({"model": "mine:Net", "sweeps": (Sweep("width", (8,)),)}, "that its code says"),
    ],
)
def test_bad_settings(changes, message):
    with pytest.raises(CompareError, match=message):
        dataclasses.replace(TINY, **changes)


def test_an_activation_in_spellings_that_differ_is_no_duplicate():
    names = ("relu", "leaky_relu", "leaky_relu:0.2", "leaky_relu:0", "elu", "elu:2", "celu")
    assert dataclasses.replace(TINY, activations=names).activations == names


def test_cells_of_two_axes():
    """Settings outside, activations inside; a parameter only where the activation has it."""
    settings = dataclasses.replace(
        TINY,
        activations=("relu", "leaky_relu", "leaky_relu:0.5"),
        sweeps=(Sweep("negative_slope", (0.0, 0.1)), Sweep("lr", (0.1, 0.2))),
    )
    assert [cell.label for cell in settings.cells] == [
        *("relu, lr=0.1", "leaky_relu:0, lr=0.1", "leaky_relu:0.1, lr=0.1"),
        "leaky_relu:0.5, lr=0.1",
        *("relu, lr=0.2", "leaky_relu:0, lr=0.2", "leaky_relu:0.1, lr=0.2"),
        "leaky_relu:0.5, lr=0.2",
    ]
    assert settings.cells[1].point == (("negative_slope", 0.0), ("lr", 0.1))


def test_what_shares_a_program():
    """Rates and slopes do; a width, a depth, a dtype and a number of samples do not."""
    settings = dataclasses.replace(
        TINY,
        activations=("relu", "leaky_relu"),
        sweeps=(Sweep("negative_slope", (0.0, 0.1, 0.2)), Sweep("lr", (0.1, 0.2))),
    )
    relu, leaky = programs(settings, settings.cells)
    assert [len(relu.cells), len(leaky.cells)] == [2, 6]
    assert [relu.networks, leaky.networks] == [6, 18]
    members = leaky.members(range(19))  # one of filling
    assert members.seeds.tolist() == [0, 1, 2] * 6 + [2]
    assert members.rates[:9].tolist() == pytest.approx([0.1] * 9)
    assert members.values["negative_slope"][:9].tolist() == pytest.approx(
        [0.0] * 3 + [0.1] * 3 + [0.2] * 3
    )
    for name, values in (
        ("width", (3, 4)),
        ("depth", (1, 2)),
        ("samples", (10, 20)),
        ("dtype", ("float32", "bfloat16")),
    ):
        swept = dataclasses.replace(TINY, sweeps=(Sweep(name, values),))
        assert len(programs(swept, swept.cells)) == 2


def test_what_a_cell_trains_with():
    cell = Cell("relu", (("width", 7), ("depth", 3), ("samples", 50), ("lr", 0.5)))
    of = TINY.of(cell)
    assert (of.widths, of.samples, of.rates, of.values) == ((7, 7, 7), 50, (0.5,), {})
    assert TINY.of(Cell("relu")).widths == (6, 5)
    assert dataclasses.replace(TINY, tune=(0.1, 0.2)).of(Cell("relu")).rates == (0.1, 0.2)
    assert Settings(activations=("relu",)).of(Cell("relu")).widths == (128, 128)
    assert Settings(activations=("relu",), model="cnn").of(Cell("relu")).widths == (16, 32)
    leaky = Cell("leaky_relu", (("negative_slope", 0.3),))
    assert TINY.of(leaky).values == {"negative_slope": 0.3}
