"""The files of the console page, and what a browser may do with them."""

import pytest

from serve.http.pages import FOLDER, Pages
from serve.http.reply import Refusal


@pytest.fixture(scope="module")
def pages():
    return Pages()


def test_every_file_of_the_page_keeps_to_its_own_site(pages):
    names = [path.name for path in FOLDER.iterdir() if path.is_file()]
    assert len(names) > 10
    for name in names:
        policy = pages.get(name).headers["content-security-policy"].split("; ")
        assert {*policy} == {
            *("default-src 'self'", "frame-ancestors 'none'"),
            *("base-uri 'none'", "form-action 'self'"),
        }


@pytest.mark.parametrize("name", ["../app.py", "/etc/passwd", "app.js/", "", "pages.py"])
def test_no_name_leads_out_of_the_folder(pages, name):
    with pytest.raises(Refusal) as refused:
        pages.get(name)
    assert refused.value.status == 404
