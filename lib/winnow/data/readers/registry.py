"""The readers by name: a new one is a file beside this one and a line here.

A reader takes the folder of raw files as their publisher distributes them. It returns a `RawLog` if
the log fits in memory, else a `RawStream`.
"""

from collections.abc import Callable

from winnow.data.raw import RawLog, RawStream
from winnow.data.readers.aliccp import read_aliccp
from winnow.data.readers.amazon import read_amazon
from winnow.data.readers.douban import read_douban
from winnow.data.readers.kuairand import read_kuairand
from winnow.data.readers.mind import read_mind
from winnow.data.readers.movielens import read_movielens

READERS: dict[str, Callable[[str], RawLog | RawStream]] = {
    "movielens": read_movielens,
    "kuairand": read_kuairand,
    "aliccp": read_aliccp,
    "amazon": read_amazon,
    "douban": read_douban,
    "mind": read_mind,
}
