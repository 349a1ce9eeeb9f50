from sentiflow.cli import environment

environment.prepare()
