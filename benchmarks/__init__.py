"""Measurements to run by hand; each prints what `results/` holds."""
