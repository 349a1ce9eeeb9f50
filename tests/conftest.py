import os

os.environ.pop("MAKELEVEL", None)  # set under `make test`; by it messages name make's variables
