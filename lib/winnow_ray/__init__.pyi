from .data.prepare import PrepareConfig as PrepareConfig, prepare as prepare
from .data.prepare_collection import (
    PrepareCollectionConfig as PrepareCollectionConfig,
    prepare_collection as prepare_collection,
)
from .evaluation.reranker import (
    EvaluateRerankerConfig as EvaluateRerankerConfig,
    evaluate_reranker as evaluate_reranker,
)
from .evaluation.retriever import (
    EvaluateRetrieverConfig as EvaluateRetrieverConfig,
    evaluate_retriever as evaluate_retriever,
)
from .generation.generate import GenerateConfig as GenerateConfig, generate as generate
from .generation.study_tasks import StudyTasksConfig as StudyTasksConfig, study_tasks as study_tasks
from .indexing.build_index import BuildIndexConfig as BuildIndexConfig, build_index as build_index
from .indexing.corpus_vectors import (
    EncodeCorpusConfig as EncodeCorpusConfig,
    encode_corpus as encode_corpus,
)
from .negatives.mine import (
    MineNegativesConfig as MineNegativesConfig,
    mine_negatives as mine_negatives,
)
from .negatives.study import study_negatives as study_negatives
from .negatives.study_runs import StudyNegativesConfig as StudyNegativesConfig
from .serving.build_bundle import BundleConfig as BundleConfig, build_bundle as build_bundle
from .serving.serve import ServeConfig as ServeConfig, serve as serve
from .training.encoder import TrainEncoderConfig as TrainEncoderConfig
from .training.leaderboard import (
    LeaderboardConfig as LeaderboardConfig,
    train_leaderboard as train_leaderboard,
)
from .training.ranker import TrainRankerConfig as TrainRankerConfig, train_ranker as train_ranker
from .training.retriever import train_retriever as train_retriever
from .training.tune_ranker import TuneRankerConfig as TuneRankerConfig, tune_ranker as tune_ranker
from .training.two_tower import TrainTowersConfig as TrainTowersConfig
