"""Checks of the files of an untrusted model directory, one module per kind of file; nothing of it is loaded or run."""
