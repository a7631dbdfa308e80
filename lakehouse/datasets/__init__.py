"""The silver datasets and the bronze tables they are made from: one file each, and one line each below."""

from lakehouse.datasets.candle import CANDLE
from lakehouse.datasets.dataset import Dataset

DATASETS: tuple[Dataset, ...] = (CANDLE,)
