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
    "batch_size": Choice(("1024", "2048", "4096")),
    "inputs.dim": Choice(("16", "32")),
    "inputs.std": LogUniform(1e-4, 1e-1),
    "architecture.dropout": Choice(("0.1", "0.2", "0.3", "0.4")),
}
"""Fields searched for every model."""

HIDDEN = Choice(("128,64,32", "256,128,64"))
WIDTHS = Choice(("128", "256", "512"))

ARCHITECTURE: Mapping[str, Mapping[str, Choice]] = {
    "shared_bottom": {
        "architecture.bottom": Choice(("128", "256", "512", "512,256", "256,128")),
        "architecture.tower": Choice(("8", "16", "64,32")),
    },
    "star": {
        "architecture.hidden": HIDDEN,
        "architecture.auxiliary": Choice(("8", "16", "32")),
    },
    "mmoe": {"architecture.expert": WIDTHS},
    "ple": {"architecture.expert": WIDTHS, "architecture.num_levels": Choice(("1", "2"))},
    "sar_net": {
        "architecture.num_shared": Choice(("2", "4", "8")),
        "architecture.num_own": Choice(("1", "2")),
    },
    "m2m": {
        "architecture.expert": Choice(("8", "16")),
        "architecture.num_encoders": Choice(("1", "2")),
        "architecture.num_decoders": Choice(("2", "3")),
        "architecture.feedforward": Choice(("16", "128", "256", "512")),
    },
    "ada_sparse": {
        "architecture.hidden": Choice(("32,32", *HIDDEN.values)),
        "architecture.beta": Choice(("2.0", "3.0", "4.0")),
    },
    "adapt_dhm": {
        "architecture.num_clusters": Choice(("3", "4", "5")),
        "architecture.temperature": Choice(("0.01", "0.03", "0.1", "1.0")),
    },
    "ep_net": {"architecture.hidden": HIDDEN},
    "pp_net": {"architecture.hidden": HIDDEN},
    "hamur": {
        "architecture.backbone": Choice(("128,64", "256,128")),
        "architecture.rank": Choice(("16", "35")),
    },
    "m3oe": {
        "architecture.num_experts": Choice(("2", "4", "8")),
        "architecture.width": Choice(("64", "128")),
    },
    "mscan": {
        "architecture.hidden": Choice(("32", "64")),
        "architecture.alpha": Choice(("0.1", "0.5", "1.0")),
    },
}
"""Fields searched for one model each; a model without an entry keeps its default sizes."""


def search_space(model: str) -> dict[str, Choice | LogUniform]:
    """All fields searched for a model."""
    return {**TRAINING, **ARCHITECTURE.get(model, {})}
