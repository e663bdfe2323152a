"""What the columns of a dataset are: names, roles, kinds and vocabulary sizes."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Role = Literal["user", "item", "context"]
Kind = Literal["sparse", "dense"]
ROLES: tuple[Role, ...] = ("user", "item", "context")
KINDS: tuple[Kind, ...] = ("sparse", "dense")


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One model input."""

    name: str
    role: Role
    """What the field describes; user and item fields are also columns of those tables."""
    kind: Kind
    """`sparse` is an int32 id with an embedding; `dense` is a float32 in [0, 1]."""
    size: int = 0
    """Vocabulary rows, the unknown id 0 included; 0 for a dense field."""

    def __post_init__(self) -> None:
        if (self.kind == "sparse") != (self.size > 0):
            raise ValueError(
                f"Field.size of {self.name!r} must be positive for a sparse field and 0 for a "
                f"dense one, got {self.size} for {self.kind}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetSchema:
    """All model inputs and the scenarios of a dataset."""

    name: str
    fields: tuple[Field, ...]
    scenarios: tuple[str, ...]
    """Names of scenarios 0, 1, ...; a scenario is the surface that an interaction was logged on."""

    def select(self, kind: Kind, roles: Iterable[Role] = ROLES) -> list[str]:
        """Names of the fields of one kind, in schema order."""
        wanted = set(roles)
        return [f.name for f in self.fields if f.kind == kind and f.role in wanted]

    def sizes(self, names: Iterable[str]) -> list[int]:
        """Vocabulary rows of the named fields."""
        by_name = {f.name: f.size for f in self.fields}
        return [by_name[name] for name in names]

    def lack_of(self, reads: "DatasetSchema") -> str:
        """What a model of the schema `reads` cannot get from data of this one; empty if nothing."""
        mine = {field.name: field for field in self.fields}
        for field in reads.fields:
            found = mine.get(field.name)
            if found is None:
                return f"{field.name!r} is none of its fields ({', '.join(mine)})"
            if found != field:
                return f"its {field.name!r} is {_described(found)}, not {_described(field)}"
        if reads.scenarios != self.scenarios:
            return f"its scenarios are not {', '.join(reads.scenarios)}"
        return ""

    def id_fields(self) -> list[str]:
        """Names of the first sparse user field and the first sparse item field.

        By convention these are the ids of user and item. A role without sparse fields adds none.
        """
        return self.select("sparse", ["user"])[:1] + self.select("sparse", ["item"])[:1]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "DatasetSchema":
        raw = json.loads(path.read_text())
        fields = tuple(Field(**field) for field in raw["fields"])
        return cls(name=raw["name"], fields=fields, scenarios=tuple(raw["scenarios"]))


def _described(field: Field) -> str:
    size = f" with {field.size} ids" if field.size else ""
    return f"a {field.kind} {field.role} field{size}"
