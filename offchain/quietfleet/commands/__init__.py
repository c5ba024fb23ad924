"""Groups of the `quietfleet` command, a file each; what they do is done elsewhere."""
