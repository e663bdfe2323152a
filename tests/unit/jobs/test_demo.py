"""The commands that the demo runs; tests/ray/pages/test_readme.py runs them."""

import importlib

import pytest

from jobs.demo import FEWER_PROMPTS, DemoConfig, steps
from winnow.config import preset_of, with_overrides


@pytest.mark.parametrize("model", ["tiny", "smollm2-135m"])
@pytest.mark.parametrize("preset", ["tiny", "simulate", "movielens_1m"])
def test_every_step_is_a_command_that_its_job_takes(preset, model, tmp_path):
    config = DemoConfig(preset=preset, model=model, data=str(tmp_path))
    data = DemoConfig(preset=preset, model=model) if preset != "movielens_1m" else config
    for job, (chosen, *settings) in steps(data, tmp_path, 8000).items():
        presets = importlib.import_module(f"jobs.{job}").PRESETS
        with_overrides(preset_of(chosen, presets), settings)


def test_a_real_model_is_asked_less(tmp_path):
    from jobs.generate import PRESETS

    def asked(model):
        preset, *settings = steps(DemoConfig(preset="simulate", model=model), tmp_path, 1)[
            "generate"
        ]
        return with_overrides(PRESETS[preset](), settings)

    real, tiny = asked("smollm2-135m"), asked("tiny")
    assert (real.model, tiny.model) == (("smollm2-135m",), ("tiny",))
    for task, number in FEWER_PROMPTS.items():
        assert real.num_prompts[task] == number < tiny.num_prompts[task]


def test_a_models_folder_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    generate = steps(DemoConfig(preset="simulate", model="weights"), tmp_path, 1)["generate"]
    assert f"model={tmp_path}/weights" in generate
