"""What a hyper-parameter search tries: fields of `RankerConfig` and their possible values.

A candidate is a list of `field=value` texts as `--set` takes them, so that the winner can be
written down, read and typed. Architecture choices follow Scenario-Wise Rec (CIKM 2025) where it has
them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several values, given as texts."""

    values: Sequence[str]


@dataclass(frozen=True, slots=True)
class LogUniform:
    """A number in [low, high] whose logarithm is uniform."""

    low: float
    high: float


TRAINING: Mapping[str, Choice | LogUniform] = {
    "optimizer.lr": LogUniform(5e-4, 5e-3),
    "optimizer.weight_decay": LogUniform(1e-8, 1e-5),
    "inputs.dim": Choice(("16", "32")),
    "inputs.std": LogUniform(1e-4, 1e-1),
    "architecture.dropout": Choice(("0.1", "0.2", "0.3", "0.4")),
}
"""Fields searched for every model, beside `batch_size`."""

HIDDEN = Choice(("128,64,32", "256,128,64"))
WIDTHS = Choice(("128", "256", "512"))

ARCHITECTURE: Mapping[str, Mapping[str, Choice]] = {
    "shared_bottom": {
        "bottom": Choice(("128", "256", "512", "512,256", "256,128")),
        "tower": Choice(("8", "16", "64,32")),
    },
    "star": {"hidden": HIDDEN, "auxiliary": Choice(("8", "16", "32"))},
    "mmoe": {"expert": WIDTHS},
    "ple": {"expert": WIDTHS, "num_levels": Choice(("1", "2"))},
    "sar_net": {"num_shared": Choice(("2", "4", "8")), "num_own": Choice(("1", "2"))},
    "m2m": {
        "expert": Choice(("8", "16")),
        "num_encoders": Choice(("1", "2")),
        "num_decoders": Choice(("2", "3")),
        "feedforward": Choice(("16", "128", "256", "512")),
    },
    "ada_sparse": {
        "hidden": Choice(("32,32", *HIDDEN.values)),
        "beta": Choice(("2.0", "3.0", "4.0")),
    },
    "adapt_dhm": {
        "num_clusters": Choice(("3", "4", "5")),
        "temperature": Choice(("0.01", "0.03", "0.1", "1.0")),
    },
    "ep_net": {"hidden": HIDDEN},
    "pp_net": {"hidden": HIDDEN},
    "hamur": {"backbone": Choice(("128,64", "256,128")), "rank": Choice(("16", "35"))},
    "m3oe": {"num_experts": Choice(("2", "4", "8")), "width": Choice(("64", "128"))},
    "mscan": {"hidden": Choice(("32", "64")), "alpha": Choice(("0.1", "0.5", "1.0"))},
}
"""Fields of `RankerConfig.architecture` searched for one model each; others keep their defaults."""


def search_space(model: str, batch_size: int) -> dict[str, Choice | LogUniform]:
    """All fields searched for a model; batches of half, once and twice the given size.

    A size that suits one dataset costs another, of a hundred times as many rows, days for a trial.
    """
    sizes = {f"architecture.{name}": one for name, one in ARCHITECTURE.get(model, {}).items()}
    batches = Choice([str(max(batch_size // 2, 1)), str(batch_size), str(2 * batch_size)])
    return {**TRAINING, "batch_size": batches, **sizes}
