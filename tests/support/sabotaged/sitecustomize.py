"""Python imports this by itself where its directory is on PYTHONPATH: so the real program can be sabotaged."""

import json
import os

from tests.support.sabotage import install

if "SABOTAGE" in os.environ:
    install(json.loads(os.environ["SABOTAGE"]))
