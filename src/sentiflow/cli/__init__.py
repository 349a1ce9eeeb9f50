"""The program `sentiflow`: one module per group of subcommands, none with logic of its own.

A command imports what it calls in its body, so that `sentiflow --help` does not load TensorFlow, MLflow, DVC or Prefect.
"""
