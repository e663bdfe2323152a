"""Do negatives of an LLM help? Train with every kind of negatives and every seed, and compare.

    python -m jobs.study_negatives --config scifact
    python -m jobs.study_negatives --config scifact --set variants=mined,hybrid seeds=0,1,2,3,4
    ray job submit --runtime-env cluster/runtime_env.yaml -- \
        python -m jobs.study_negatives --config scifact --set num_workers=8

Every run starts from the same untuned encoder, takes the same number of steps and is measured on
the test split. Finished runs are kept, so a killed study continues with the rest. The table begins
with the untuned encoder, BM25 and both fused, and ends with a sentence on the LLM's negatives.

The untuned encoder reads texts as long as its own files say, trained encoders `max_tokens` of them.
A trained row below the untuned one may have lost to shorter texts and not to its training.
"""

from jobs import train_retriever
from jobs._command import job_command
from winnow.retrieval.encoder_training.experiment import EncoderConfig
from winnow.retrieval.encoder_training.train import EncoderTrainConfig
from winnow.retrieval.negatives.mix import MixConfig
from winnow_ray.negatives.study import study_negatives
from winnow_ray.negatives.study_runs import StudyNegativesConfig, ToyStudyConfig


def scifact() -> StudyNegativesConfig:
    """SciFact, trained as `jobs.train_retriever --config scifact`."""
    base = train_retriever.scifact()
    common = {name: getattr(base, name) for name in EncoderConfig.__dataclass_fields__}
    places = {"mined": "runs/scifact/negatives_llm", "output": "runs/scifact/negatives_study"}
    return StudyNegativesConfig(**common | places)


def tiny() -> StudyNegativesConfig:
    """A toy search and encoder made on the spot, for tests: some seconds in this process."""
    return ToyStudyConfig(
        collection="runs/tiny/toy_collection",
        model="runs/tiny/toy_encoder",
        mined="runs/tiny/toy_negatives",
        output="runs/tiny/negatives_study",
        negatives=MixConfig(per_instance=4),
        train=EncoderTrainConfig(
            epochs=4, batch_size=8, lr=5e-3, temperature=0.1, precision="float32"
        ),
        valid_share=0.2,
        seeds=(0, 1),
        num_workers=0,
        cpus_per_worker=1,
    )


PRESETS = {"scifact": scifact, "tiny": tiny}

run = study_negatives
main = job_command(run, PRESETS, __doc__)


if __name__ == "__main__":
    main()
