"""Mine hard negatives with BM25, an encoder and both fused, and take in those of an LLM.

    python -m jobs.mine_negatives --config scifact
    python -m jobs.generate --config hard_negatives --set num_prompts.hard_negatives=0 \
        model=<folder, id or tiny> input=runs/scifact/negatives/llm_inputs.parquet \
        output=runs/scifact/generation
    python -m jobs.mine_negatives --config scifact --set generation=runs/scifact/generation \
        output=runs/scifact/negatives_llm

The first command also writes the prompts of the second; the third adds the filtered answers.
"""

from jobs._command import job_command
from winnow.retrieval.negatives.candidates import MiningConfig
from winnow.retrieval.negatives.llm_prompts import catalogue_inputs, scifact_inputs
from winnow_ray.negatives.mine import MineNegativesConfig, mine_negatives


def scifact() -> MineNegativesConfig:
    """SciFact: claims, where a refuting abstract is as relevant as a supporting one."""
    return MineNegativesConfig(
        collection="runs/scifact/collection",
        vectors="runs/scifact/vectors",
        output="runs/scifact/negatives",
        prompts=scifact_inputs(),
    )


def tiny() -> MineNegativesConfig:
    """The simulated log of tests, with short lists, in this process."""
    return MineNegativesConfig(
        collection="runs/tiny/collection",
        vectors="runs/tiny/vectors",
        output="runs/tiny/negatives",
        workers=(0, 0),
        prompts=catalogue_inputs(),
        mining=MiningConfig(first_rank=2, last_rank=30, num_random=8, wanted=3),
    )


def movielens_1m() -> MineNegativesConfig:
    """MovieLens-1M: histories in words ask for films."""
    return MineNegativesConfig(
        collection="runs/movielens_1m/collection",
        vectors="runs/movielens_1m/vectors",
        output="runs/movielens_1m/negatives",
        prompts=catalogue_inputs(),
    )


def beir() -> MineNegativesConfig:
    """Any set in BEIR's layout: prompts name no field and no rule of relevance."""
    return MineNegativesConfig(
        collection="runs/beir/collection",
        vectors="runs/beir/vectors",
        output="runs/beir/negatives",
    )


PRESETS = {"scifact": scifact, "tiny": tiny, "movielens_1m": movielens_1m, "beir": beir}

run = mine_negatives
main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
