"""The study of negatives: its table by hand, what every run has in common, and a whole one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jobs import study_negatives, train_retriever
from winnow.artifact import open_artifact
from winnow.artifact.work_folder import WorkFolder
from winnow.config import with_overrides
from winnow.data.collection import Collection
from winnow.errors import DataError
from winnow.retrieval.encoder_training.experiment import EncoderExperiment
from winnow.retrieval.evaluation.significance import randomisation_test
from winnow.retrieval.negatives.mix import MixConfig
from winnow.retrieval.negatives.table import check_negatives
from winnow.retrieval.negatives_study.runs import EvenExperiment
from winnow.retrieval.negatives_study.table import figures, markdown, reading, study
from winnow.retrieval.toy import make_toy_search
from winnow_ray.negatives.study_runs import NEVER, ToyStudyConfig
from winnow_ray.training import encoder

QUERIES = 40


def run_of(variant, seed, ndcg, **others):
    values = np.broadcast_to(np.asarray(ndcg, float), QUERIES).tolist()
    names = ("ndcg@10", "recall@100", "mrr@10", "map")
    per_query = {"query": [str(q) for q in range(QUERIES)], **dict.fromkeys(names, values)}
    return {"variant": variant, "seed": seed, "per_query": per_query, "seconds": 2.0, **others}


def board_of(**ndcg):
    """Two baselines, and variants of one seed with these figures."""
    base = [run_of("untuned", None, 0.3), run_of("bm25_search", None, 0.2)]
    return study(base + [run_of(variant, 0, value) for variant, value in ndcg.items()])


def some_better(by, share):
    """0.5 for every query, and more for a share of them."""
    return 0.5 + by * (np.arange(QUERIES) < share * QUERIES)


def test_the_table_has_means_spreads_and_tests_over_the_means_of_seeds():
    half = np.arange(QUERIES) % 2
    runs = [
        run_of("untuned", None, 0.4),
        run_of("mined", 0, 0.5, steps=8, gradient_variance=1.0),
        run_of("mined", 1, 0.7, steps=8, gradient_variance=2.0),
        run_of("hybrid", 0, 0.5 + 0.2 * half, steps=8, gradient_variance=3.0, seconds=4.0),
        run_of("hybrid", 1, 0.7 - 0.2 * half, steps=8, gradient_variance=3.0, seconds=8.0),
    ]
    board = study(runs)
    assert list(board) == ["untuned", "mined", "hybrid"]
    mined, hybrid = board["mined"], board["hybrid"]
    assert mined["ndcg@10"] == pytest.approx(0.6)
    assert mined["spread"] == pytest.approx(0.02**0.5)  # of 0.5 and 0.7, divided by 2 - 1
    assert mined["recall@100_spread"] == mined["spread"]
    assert mined["seeds"] == [0, 1]
    assert mined["gradient_variance"] == 1.5
    assert hybrid["spread"] == pytest.approx(0)
    assert hybrid["seconds"] == 6
    # Each query's mean over the seeds is 0.6 in both: no difference, whatever the seeds did.
    assert hybrid["p_vs_mined"] == 1
    assert hybrid["p_vs_untuned"] == randomisation_test(np.full(QUERIES, 0.2)) < 0.001
    assert board["untuned"]["p_vs_untuned"] is None
    assert board["untuned"]["spread"] is None
    assert mined["p_vs_mined"] is None
    assert figures(board)["untuned"].keys() == {"ndcg@10", "spread", "p_vs_untuned"}
    lines = markdown(board).splitlines()
    assert lines[2] == (
        "| untuned | 0.4000 | 0.4000 | 0.4000 | - | 0.0001 | - | - | - | - | 2 |"
    )  # the rows without training are on top
    assert lines[3].startswith("| mined | 0.6000 ± 0.1414 |")


def test_runs_of_other_queries_do_not_compare():
    odd = run_of("mined", 1, 0.5)
    odd["per_query"]["query"] = odd["per_query"]["query"][::-1]
    with pytest.raises(ValueError, match="the runs of mined were measured on different queries"):
        study([run_of("mined", 0, 0.5), odd])


@pytest.mark.parametrize(
    ("llm", "hybrid", "said"),
    [
        (0.5, some_better(0.1, 0.9), "helped: hybrid, the best of llm, hybrid, is 0.0900 above"),
        (some_better(-0.1, 0.9), 0.5, "did not help: hybrid, the best of llm, hybrid, is 0.0000"),
        (some_better(-0.1, 0.9), 0.5, "; llm is 0.0900 below mined (95 % interval"),
        (0.5, some_better(0.4, 0.05), "did not help: hybrid, the best of llm, hybrid, is 0.0200 a"),
        (some_better(-0.2, 1), some_better(-0.1, 1), "hurt: hybrid, the best of llm, hybrid, is"),
    ],
)
def test_the_reading_says_whether_llm_negatives_helped(llm, hybrid, said):
    text = reading(board_of(none=0.45, mined=0.5, llm=llm, hybrid=hybrid))
    assert said in text
    assert ("which chance explains" in text) == ("did not help" in text)


def test_more_comparisons_need_a_smaller_p():
    better = some_better(0.4, 0.15)  # 6 of 40 queries: p is about 1 / 32
    assert "negatives helped: hybrid is 0.0600 above" in reading(board_of(mined=0.5, hybrid=better))
    three = board_of(mined=0.5, llm=0.5, direct=0.5, hybrid=better)
    assert "did not help: hybrid, the best of llm, direct, hybrid," in reading(three)


def test_the_best_of_several_variants_needs_a_smaller_p_too():
    close = some_better(0.4, 0.15) - 0.2
    sole = reading(board_of(none=close))
    assert "chance explains among" not in sole
    many = reading(board_of(none=close, random=0.3, bm25=0.3, llm=0.3, hybrid=0.3))
    assert "which chance explains among 5" in many


def test_the_reading_says_what_training_alone_gave():
    text = reading(board_of(none=0.45, mined=0.5))
    assert text.startswith("The best variant, mined, is 0.2000 above untuned (95 % interval")
    assert "without negatives of its own (none) makes +0.1500 of that." in text
    assert text.endswith("takes mined and one of llm, direct, hybrid.")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    make_toy_search(folder / "collection", folder / "encoder", folder / "negatives")
    return at_folder(study_negatives.tiny(), folder)


def at_folder(config, folder):
    places = {"collection": "collection", "model": "encoder", "mined": "negatives"}
    found = {name: str(folder / place) for name, place in places.items()}
    return replace(config, output=str(folder / "study"), **found)


def rows_of(instances):
    columns = [instances.query_P, instances.positive_P, *instances.negative_PN.T]
    return [tuple(map(int, row)) for row in zip(*columns, strict=True)]


@pytest.mark.parametrize("variant", ["none", "mined", "llm", "hybrid"])
def test_epochs_of_even_modes_are_those_of_any_training(config, variant):
    cell = config.cell(variant, 3)
    even, plain = EvenExperiment(cell), EncoderExperiment(cell)
    for epoch in (0, 2):
        assert rows_of(even.instances(epoch)) == rows_of(plain.instances(epoch))


def test_direct_takes_no_more_steps_than_others(config):
    even, plain = (kind(config.cell("direct", 3)) for kind in (EvenExperiment, EncoderExperiment))
    twice = rows_of(plain.instances(0))
    pairs = len(EvenExperiment(config.cell("mined", 3)).instances(0))
    assert len(twice) == 2 * pairs
    assert rows_of(even.instances(0)) == twice[:pairs]
    assert rows_of(even.instances(1)) == twice[pairs:]
    assert rows_of(even.instances(2)) == rows_of(plain.instances(1))[:pairs]


def test_a_seed_decides_order_turns_and_who_validates(config):
    one, two = (config.cell("hybrid", seed) for seed in (0, 1))
    assert (one.train.seed, two.train.seed) == (one.negatives.seed, two.negatives.seed) == (0, 1)
    assert one.train.patience == NEVER
    assert replace(two, train=one.train, negatives=one.negatives) == one  # and nothing else
    first, second = EvenExperiment(one), EvenExperiment(two)
    trained = [experiment.texts.query_tokens.token_T.tolist() for experiment in (first, second)]
    assert trained[0] != trained[1]


def test_runs_are_known_by_what_decides_them(config):
    made_from = config.parents(Collection.open(config.collection))
    keys = [config.key(config.cell(v, s), made_from) for v in ("none", "mined") for s in (0, 1)]
    keys.append(replace(config, test="train").key(config.cell("none", 0), made_from))
    keys.append(config.key(config.untrained(), made_from))
    assert len(set(keys)) == 6
    longer = replace(config, train=replace(config.train, epochs=9))
    assert config.key(longer.untrained(), made_from) == keys[-1]
    assert config.key(longer.cell("none", 0), made_from) != keys[0]


def test_all_variants_validate_on_the_same_documents(config):
    few = replace(config, valid_documents=12)
    searched = [EvenExperiment(few.cell(v, 0))._valid_rows.tolist() for v in config.variants]
    assert len(searched[0]) == 12
    assert all(rows == searched[0] for rows in searched)


def test_the_untuned_encoder_is_no_easier_to_beat_for_short_texts(config):
    short = replace(config, max_tokens=3)
    assert short.cell("none", 0).untuned().settings.max_tokens == 3
    assert short.untrained().untuned().settings == config.untrained().untuned().settings
    assert config.untrained().untuned().settings.max_tokens > 3


def test_a_variant_without_its_negatives_is_one_clear_error(config, tmp_path):
    variants = study_negatives.tiny().variants
    check_negatives(config.mined, variants, ("dense",))
    check_negatives("", ["none"], ("dense",))
    with pytest.raises(DataError, match="mode random needs mined=<the output of"):
        check_negatives("", variants, ("dense",))
    artifact = open_artifact(config.mined)
    manifest = dict(artifact.manifest)
    for source, said in [
        ("llm", "mode llm needs negatives of llm, of which .* run jobs.mine_negatives with gen"),
        ("bm25", "mode bm25 needs negatives of bm25"),
        ("dense", "mode mined needs negatives of dense, of which"),
    ]:
        verdicts = {**artifact.metrics["verdicts"], source: {"copy": 3}}
        folder = tmp_path / source
        folder.mkdir()
        for name in manifest["files"]:
            (folder / name).write_bytes((artifact.path / name).read_bytes())
        changed = {**manifest, "metrics": {**artifact.metrics, "verdicts": verdicts}}
        (folder / "manifest.json").write_text(json.dumps(changed))
        with pytest.raises(DataError, match=said):
            check_negatives(str(folder), variants, ("dense",))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"seeds": ()}, r"StudyNegativesConfig.seeds must name each value once, got \(\)"),
        ({"variants": ("llm", "llm")}, "StudyNegativesConfig.variants must name each value once"),
        ({"num_workers": -1}, "num_workers must be >= 0, got -1"),
    ],
)
def test_settings_that_make_no_sense(config, bad, said):
    with pytest.raises(ValueError, match=said):
        replace(config, **bad)


def test_the_preset_is_trained_as_the_encoder_is():
    config, base = study_negatives.scifact(), train_retriever.scifact()
    cell = config.cell("hybrid", base.train.seed)
    assert replace(cell.train, patience=base.train.patience) == base.train
    assert cell.negatives.per_instance == base.negatives.per_instance
    assert config.seeds == (0, 1, 2)


def test_a_ratio_trains_on_both_kinds_or_says_what_is_missing(config, tmp_path):
    """What `--set negatives.syn_ratio=0.7` makes of the preset."""
    asked = with_overrides(train_retriever.scifact(), ["negatives.syn_ratio=0.7"])
    assert asked.negatives.kind == "hybrid"
    assert train_retriever.scifact().negatives.kind == "mined"
    without = with_overrides(train_retriever.scifact(), ["negatives.mode=none", "mined="])
    assert without.negatives.kind == "none"  # the mode, and not no mode
    toy = {name: getattr(config, name) for name in ("collection", "model")}
    with pytest.raises(DataError, match=r"mode hybrid needs mined=<the output of"):
        encoder.train_encoder(replace(asked, mined="", output=str(tmp_path / "out"), **toy))


def test_a_ratio_is_of_the_variant_that_has_one(config):
    study = replace(config, negatives=MixConfig(per_instance=4, syn_ratio=0.5))
    assert study.cell("hybrid", 0).negatives.ratio == 0.5
    assert study.cell("mined", 0).negatives.syn_ratio is None


def test_folders_become_absolute_and_names_stay_names(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    for config in (train_retriever.scifact(), study_negatives.scifact()):
        found = encoder.with_absolute_paths(config)
        assert (found.model, found.teacher) == ("all-MiniLM-L6-v2", "")
        assert found.mined == str(tmp_path / config.mined)
        taught = replace(config, teacher="folder", train=replace(config.train, distil=0.5))
        assert encoder.with_absolute_paths(taught).teacher == str(tmp_path / "folder")


def test_a_killed_study_goes_on_and_trains_nothing_twice(tmp_path, monkeypatch):
    config = at_folder(study_negatives.tiny(), tmp_path)  # makes its own search
    config = replace(config, variants=("none", "mined", "direct"))
    assert isinstance(config, ToyStudyConfig)
    write, written = WorkFolder.write, []

    def killed_after_three(work, key, text):
        write(work, key, text)
        written.append(key)
        if len(written) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(WorkFolder, "write", killed_after_three)
    with pytest.raises(KeyboardInterrupt):
        study_negatives.run(config)
    assert not Path(config.output).exists()
    monkeypatch.setattr(WorkFolder, "write", lambda work, key, text: written.append(key))
    result = study_negatives.run(config)
    assert len(written) == len(set(written)) == 1 + 3 * 2
    assert list(result) == ["untuned", "bm25_search", "fused", "none", "mined", "direct"]
    assert result["mined"]["ndcg@10"] > result["untuned"]["ndcg@10"]
    assert result["untuned"]["spread"] is None
    assert result["none"]["spread"] >= 0

    artifact = open_artifact(config.output, kind="negatives_study")
    assert artifact.metrics == result
    content = json.loads((artifact.path / "study.json").read_text())
    steps = {name: row["steps"] for name, row in content["rows"].items()}
    assert [steps.pop(name) for name in ("untuned", "bm25_search", "fused")] == [None] * 3
    assert steps == {"none": 16, "mined": 16, "direct": 16}
    text = (artifact.path / "study.md").read_text()
    assert text.startswith("| negatives | nDCG@10 |")
    assert content["reading"] in text
    table = pq.read_table(artifact.path / "per_query.parquet")
    assert table.num_rows == 12 * (3 + 3 * 2)
    assert not WorkFolder.beside(config.output).finished(written)

    monkeypatch.setattr("winnow_ray.negatives.study.finished_runs", None)
    assert study_negatives.run(config) == result
