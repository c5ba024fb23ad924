"""Quietfleet: decentralised MLOps for IoT fleets over a network that hides who talks to whom."""

__version__ = "0.1.0"
