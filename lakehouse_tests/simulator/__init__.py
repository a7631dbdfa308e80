"""Tests of the simulated exchange, over real HTTP on loopback."""
