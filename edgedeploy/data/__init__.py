"""Datasets: readers, declared preprocessing and tensor packs."""
