"""What a run spends, and when it stops."""

import pytest

from winnow.llm.generation.budget import BudgetConfig, PriceConfig, Spending

PRICES = PriceConfig(worker_hour=3.0, prompt_million=2.0, output_million=10.0)
REPORT = {"prompt_tokens": 500_000, "output_tokens": 100_000, "seconds": 1800.0, "generated": 9}


def test_cost_is_of_tokens_and_of_all_workers_hours():
    spending = Spending(BudgetConfig(), PRICES, workers=2)
    spending.add(REPORT)
    spending.add(REPORT)
    assert spending.cost() == pytest.approx(2 * (1.0 + 1.0 + 3.0))


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (BudgetConfig(), ""),
        (BudgetConfig(tokens=600_001, money=5.01, hours=0.51), ""),
        (BudgetConfig(tokens=600_000), "budget.tokens=600000 is used up"),
        (BudgetConfig(money=5.0), "budget.money=5.0 is used up"),
        (BudgetConfig(hours=0.5), "budget.hours=0.5 is used up"),
    ],
)
def test_a_limit_that_is_reached_is_named(budget, message):
    assert Spending(budget, PRICES, workers=2).used_up(REPORT) == message


def test_engines_that_have_ended_count():
    spending = Spending(BudgetConfig(tokens=1_000_000), PRICES, workers=1)
    assert spending.used_up(REPORT) == ""
    spending.add(REPORT)
    assert spending.used_up(REPORT) == "budget.tokens=1000000 is used up"


@pytest.mark.parametrize("name", ["tokens", "money", "hours"])
def test_a_negative_limit_is_refused(name):
    with pytest.raises(ValueError, match=f"BudgetConfig.{name} must not be negative, got -1"):
        BudgetConfig(**{name: -1})
