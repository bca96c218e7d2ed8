"""Pooled features, linear classifiers on them, and crops by their maps (Zhou et al. 2016, §4)."""
