"""Items in words and plain values, neither trained nor encoded: for prompts and list measures."""

import json
import re
from collections.abc import Mapping, Sequence
from statistics import median_high
from typing import Any

import pyarrow as pa

from winnow.data.dataset import Dataset
from winnow.data.schema import DatasetSchema

FEWEST_VALUES, MOST_VALUES = 2, 500
"""Distinct values of a facet; a field with more almost names single items."""
YEAR = re.compile(r"\((\d{4})\)\s*$")
"""A year at the end of a title, as in film catalogues."""


class ItemWords:
    """Titles and texts of items, and two plain values: a facet such as the genre, and the year."""

    def __init__(
        self,
        items: pa.Table,
        schema: DatasetSchema,
        names: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """`names` maps an item field to the values of its ids 1, 2, ..."""
        self.titles: list[str] = [title or "" for title in items["title"].to_pylist()]
        self._texts = [text or "" for text in items["text"].to_pylist()]
        self.facet = _facet(schema)
        """The first item field with few values, the id aside; None if no field has few."""
        self._values: list[Any] = [None] * len(self.titles)
        if self.facet is not None:
            known = (names or {}).get(self.facet)
            ids = items[self.facet].to_pylist()
            self._values = [(known[i - 1] if known else i) if i else None for i in ids]
        found = [YEAR.search(title) for title in self.titles]
        years = [int(match.group(1)) if match else None for match in found]
        self.has_years = 2 * sum(year is not None for year in years) > len(years)
        """Whether most titles end with a year."""
        self._years = years if self.has_years else [None] * len(years)
        self.middle_year = median_high([y for y in years if y]) if self.has_years else None
        """High median of the known years; None if most titles have none."""

    @classmethod
    def of(cls, dataset: Dataset) -> "ItemWords":
        """The items of a dataset, with the names of their facet's values."""
        return cls(dataset.items, dataset.schema, value_names(dataset))

    def fields(self, row: int) -> dict[str, Any]:
        """Title, facet, year and text of an item, without the unknown ones."""
        title, text = self.titles[row], self._texts[row]
        about = text.removeprefix(title).lstrip(" .")
        known = {"title": title, self.facet: self._values[row], "year": self._years[row]}
        shown = {name: value for name, value in known.items() if name and value is not None}
        return {**shown, "about": about} if about else shown

    def path(self, row: int) -> list[str]:
        """The item's default path in the item tree: facet, then decade; empty without a facet."""
        value, year = self._values[row], self._years[row]
        if value is None or not str(value).strip():
            return []
        name = str(value) if isinstance(value, str) else f"{self.facet} {value}"
        return [name] if year is None else [name, f"{year // 10 * 10}s"]


def value_names(dataset: Dataset) -> dict[str, list[str]]:
    """The facet's name with the values of its ids 1, 2, ...; empty without a facet."""
    facet = _facet(dataset.schema)
    path = dataset.artifact.path / "vocab" / f"{facet}.json"
    return {facet: json.loads(path.read_text())} if facet and path.is_file() else {}


def _facet(schema: DatasetSchema) -> str | None:
    for field in schema.select("sparse", ["item"]):
        (size,) = schema.sizes([field])
        if field not in schema.id_fields() and FEWEST_VALUES < size <= MOST_VALUES + 1:
            return field
    return None
