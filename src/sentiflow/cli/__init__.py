"""The program `sentiflow`: one module per group of commands, without logic of its own.

Commands import what they call in their bodies, so that `sentiflow --help` does not load TensorFlow, MLflow, DVC or Prefect.
"""
