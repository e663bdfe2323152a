from .bm25 import Bm25 as Bm25
from .index.item_index import ItemIndex as ItemIndex
from .text_encoder.encoder import TextEncoder as TextEncoder
from .two_tower.retriever import Retriever as Retriever
