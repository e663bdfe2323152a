"""The table and the plot of many runs, by hand."""

import pytest

from winnow.ranking.leaderboard import leaderboard, markdown
from winnow.ranking.plot import plot_leaderboard


def run(model, seed, auc, home=None, logloss=0.5):
    return {
        "model": model,
        "seed": seed,
        "auc": auc,
        "logloss": logloss,
        "auc_by_scenario": {"home": home if home is not None else auc, "cart": None},
        "logloss_by_scenario": {"home": logloss - 0.1, "cart": None},
        "parameters": 12_345,
        "rows_per_s": 1000 * (seed + 1),
        "epochs": 3,
        "seconds": 2.0,
    }


RUNS = [
    run("shared_bottom", 0, 0.70),
    run("star", 1, 0.84, logloss=0.46),
    run("shared_bottom", 1, 0.72),
    run("star", 0, 0.80),
    run("m2m", 0, 0.60),
]


def test_means_and_spreads_by_hand():
    board = leaderboard(RUNS)
    assert list(board) == ["star", "shared_bottom", "m2m"]  # best first
    star = board["star"]
    assert star["auc"] == pytest.approx(0.82)
    assert star["auc_spread"] == pytest.approx(0.0282843, abs=1e-6)  # of 0.80 and 0.84, n - 1
    assert star["seeds"] == [0, 1]
    assert star["rows_per_s"] == 1500
    assert star["auc_by_scenario"] == {"home": pytest.approx(0.82), "cart": None}
    assert star["logloss"] == pytest.approx(0.48)
    assert star["logloss_spread"] == pytest.approx(0.0282843, abs=1e-6)  # of 0.46 and 0.50
    assert star["logloss_by_scenario"] == {"home": pytest.approx(0.38), "cart": None}
    # differences 0.10 and 0.12: t = 0.11 / (0.0141 / sqrt 2) = 11, one degree of freedom
    assert star["p_value"] == pytest.approx(0.0577, abs=1e-4)


def test_one_seed_has_no_spread_and_no_p_value():
    board = leaderboard(RUNS)
    assert board["m2m"]["auc_spread"] is board["m2m"]["logloss_spread"] is None
    assert board["m2m"]["p_value"] is None
    assert board["shared_bottom"]["p_value"] is None
    assert leaderboard(RUNS[1:2])["star"]["p_value"] is None  # no reference


def test_equal_models_are_not_significant():
    runs = [run("shared_bottom", s, 0.7) for s in range(3)] + [
        run("star", s, 0.7) for s in range(3)
    ]
    assert leaderboard(runs)["star"]["p_value"] is None


def test_the_table_shows_spreads_and_hyphens_for_missing_figures():
    head, rule, star, *_ = markdown(leaderboard(RUNS)).splitlines()
    assert head == (
        "| model | AUC | logloss | home AUC / logloss | cart AUC / logloss | p | parameters "
        "| rows/s |"
    )
    assert rule.count("---:") == 7
    assert star == (
        "| star | 0.8200 ± 0.0283 | 0.4800 ± 0.0283 | 0.8200 / 0.3800 | - / - | 0.058 | 12,345 "
        "| 1,500 |"
    )


def test_test_rows_of_one_class_leave_a_hyphen_at_the_end_of_the_table(tmp_path):
    lost = [
        run("mmoe", seed, None) | {"auc_by_scenario": {"home": None, "cart": None}}
        for seed in (0, 1)
    ]
    board = leaderboard([*lost, *RUNS])
    assert list(board)[-1] == "mmoe"
    assert board["mmoe"]["auc"] is board["mmoe"]["auc_spread"] is board["mmoe"]["p_value"] is None
    assert (
        markdown(board).splitlines()[-1].startswith("| mmoe | - | 0.5000 ± 0.0000 | - / 0.4000 |")
    )
    plot_leaderboard(board, "one class", tmp_path / "board.png")
    assert leaderboard(lost)["mmoe"]["auc"] is None


def test_the_plot_is_a_png(tmp_path):
    plot_leaderboard(leaderboard(RUNS), "by hand", tmp_path / "board.png")
    assert (tmp_path / "board.png").read_bytes().startswith(b"\x89PNG")
