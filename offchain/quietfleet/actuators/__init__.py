"""What a sensor can move, how far it ever may, and what is said of it: commands, their limits, effects, drivers.

No clock, no session and no thread of its own; the smallest sensor builds have it.
"""
