"""A loopback exchange for demos and tests: deterministic, without network, with faults on request.

Belongs here: what an exchange publishes and answers, its clock, and everything that can be wrong with either.
Does not: how it is read (`sources`), or the dialects of readers (`exchanges`): it states each independently.
"""

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
