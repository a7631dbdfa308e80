"""A loopback exchange for demos and tests: deterministic, without network, with faults on request."""

from lakehouse.simulator.faults import FAULTS, Fault, UnknownFaultError
from lakehouse.simulator.markets import DEFAULT_MARKETS, SimulatedMarket
from lakehouse.simulator.rowfaults import DAY_FAULTS
from lakehouse.simulator.simulator import Simulator

__all__ = [
    "DAY_FAULTS",
    "DEFAULT_MARKETS",
    "FAULTS",
    "Fault",
    "SimulatedMarket",
    "Simulator",
    "UnknownFaultError",
]
