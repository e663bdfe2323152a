"""The context of a request, encoded as the dataset encoded the context of its interactions."""

from collections.abc import Mapping

import numpy as np

from winnow.bundle import Bundle
from winnow.cascade.answer import ContextField
from winnow.cascade.request import ContextValue, RequestError
from winnow.data.join import Features
from winnow.data.prepare.encode import MinMax


class ContextEncoder:
    """Encodes contexts by the encoders of a bundle; a value that these do not know is unknown."""

    def __init__(self, bundle: Bundle) -> None:
        self._fields = bundle.context
        names = {kind: bundle.schema.select(kind, ["context"]) for kind in ("sparse", "dense")}
        self._column = {name: at for of_kind in names.values() for at, name in enumerate(of_kind)}
        self._left_out = [
            Features.unknown(bundle.schema, "context") for _ in bundle.schema.scenarios
        ]
        for name, id_S in self._fields.by_scenario.items():
            for features, value in zip(self._left_out, id_S, strict=True):
                features.sparse[0, self._column[name]] = value

    def __call__(self, context: Mapping[str, ContextValue], scenario: int) -> Features:
        """One row of the context fields; those left out follow from the scenario or are unknown.

        Raises:
            RequestError: there is no field of that name, or its value has the wrong type.
        """
        features = self._left_out[scenario]
        if not context:
            return features
        features = Features(features.sparse.copy(), features.dense.copy())
        for name, value in context.items():
            encoder = self._fields.encoders.get(name)
            if encoder is None:
                raise RequestError(f"context.{name}", self._no_such_field())
            if isinstance(encoder, MinMax):
                number = np.array([_number(name, value)])
                features.dense[0, self._column[name]] = encoder.encode(number)[0]
            else:
                features.sparse[0, self._column[name]] = encoder.get(_word(value), 0)
        return features

    def described(self) -> list[ContextField]:
        """The fields that a request may give."""
        return [
            ContextField(
                name,
                "number" if isinstance(encoder, MinMax) else "text",
                name in self._fields.by_scenario,
            )
            for name, encoder in self._fields.encoders.items()
        ]

    def _no_such_field(self) -> str:
        names = ", ".join(self._fields.encoders)
        return f"is not a context field; there {f'are {names}' if names else 'is none'}"


def _word(value: ContextValue) -> str:
    """The value as the text that a vocabulary holds: 12.0 is the 12 of a column of integers."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _number(name: str, value: ContextValue) -> float:
    if isinstance(value, str):
        raise RequestError(f"context.{name}", "must be a number, got text")
    return float(value)
