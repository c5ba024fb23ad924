"""The contracts as Python objects: a reorg-safe follower, a replica of the registry, typed faces for transactions."""
