from .ranker import Ranker as Ranker, save_ranker as save_ranker
from .registry import MODELS as MODELS, ModelSpec as ModelSpec
