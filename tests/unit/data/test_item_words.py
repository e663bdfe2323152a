"""Items in words and plain values, from a dataset's tables."""

import pyarrow as pa
import pytest

from winnow.data.item_words import ItemWords
from winnow.data.schema import DatasetSchema, Field


def schema(genres=4, genre="genre"):
    fields = (
        Field(name="user_id", role="user", kind="sparse", size=3),
        Field(name="movie_id", role="item", kind="sparse", size=4),
        Field(name=genre, role="item", kind="sparse", size=genres),
    )
    return DatasetSchema(name="films", fields=fields, scenarios=("all",))


def items(titles=("Heat (1995)", "Alien (1979)", "Untitled"), genre="genre"):
    texts = [f"{title}. A film." for title in titles[:2]] + [None]
    columns = {"title": list(titles), "text": texts, "movie_id": [1, 2, 3], genre: [2, 3, 0]}
    return pa.table(columns)


def test_fields_leave_out_what_is_not_known():
    words = ItemWords(items(), schema(), {"genre": ["crime", "drama", "horror"]})
    assert words.fields(0) == {
        "title": "Heat (1995)",
        "genre": "drama",
        "year": 1995,
        "about": "A film.",
    }
    assert words.fields(2) == {"title": "Untitled"}
    assert next(iter(words.fields(0))) == "title"
    assert words.middle_year == 1995
    assert [words.path(row) for row in range(3)] == [["drama", "1990s"], ["horror", "1970s"], []]


def test_without_names_the_numbers_tell_values_apart():
    words = ItemWords(items(), schema())
    assert words.fields(1)["genre"] == 3
    assert words.path(1) == ["genre 3", "1970s"]


def test_years_count_only_where_most_titles_have_one():
    words = ItemWords(items(("Heat (1995)", "Alien", "Untitled")), schema())
    assert not words.has_years
    assert words.middle_year is None
    assert "year" not in words.fields(0)
    assert words.path(0) == ["genre 2"]


@pytest.mark.parametrize(("size", "facet"), [(2, None), (3, "genre"), (501, "genre"), (502, None)])
def test_a_facet_has_a_few_values(size, facet):
    words = ItemWords(items(), schema(genres=size))
    assert words.facet == facet
    assert ("genre" in words.fields(0)) == (facet is not None)
