"""Metrics under their standard names. ``None`` stands for a metric that is undefined, a ratio over nothing."""
