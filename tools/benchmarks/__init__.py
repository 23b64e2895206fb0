"""Measurements of speed and memory, each with both sides of its comparison in one run."""
