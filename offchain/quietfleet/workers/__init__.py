"""The workers: one short file each on one shared runtime."""
