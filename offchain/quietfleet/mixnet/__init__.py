"""Onion packets, paths and cover traffic, without I/O."""
