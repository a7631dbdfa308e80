"""A loopback exchange for demos and tests: deterministic, without network, with faults on request."""

from lakehouse.simulator.faults import FAULTS, Fault, UnknownFaultError
from lakehouse.simulator.markets import DEFAULT_MARKETS, SimulatedMarket
from lakehouse.simulator.simulator import Simulator

__all__ = ["DEFAULT_MARKETS", "FAULTS", "Fault", "SimulatedMarket", "Simulator", "UnknownFaultError"]
