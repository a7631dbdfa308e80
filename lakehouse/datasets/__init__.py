"""The silver datasets and the bronze tables they are made from: one file each, and one line each below.

Belongs here: declarations, and how one cell of silver is made of bronze ones; markets, gaps, conflicts.
Does not: where rows come from (`sources`), arithmetic of frames (`transform`), storing them (`storage`).
"""

from lakehouse.datasets.candle import CANDLE
from lakehouse.datasets.dataset import Dataset
from lakehouse.datasets.funding_rate import FUNDING_RATE

DATASETS: tuple[Dataset, ...] = (CANDLE, FUNDING_RATE)
