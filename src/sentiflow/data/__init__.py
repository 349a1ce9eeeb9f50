"""Texts: sources, normal form, cleaning, splits, vocabulary, data card."""
