"""The files of a model directory that may be a stranger's, one kind a module: read without loading or running any of it."""
