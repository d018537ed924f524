"""Measuring an artifact: the loop, statistics, validity and comparison."""
