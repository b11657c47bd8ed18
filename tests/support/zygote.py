"""A process that has loaded the whole program, and forks a run of it for each request: a start costs a tenth that way.

It reads a JSON document a line, `{"words", "orders", "log", "all_is_old", "stdout", "stderr"}`, and answers with the
child's process id, and with its exit status when it has ended.
"""

from __future__ import annotations

import gc
import json
import os
import pkgutil
import sys
from datetime import timedelta
from importlib import import_module
from typing import Any, NoReturn

from retentiond import cli
from retentiond.targets.dendrite_media.audit import auditor
from retentiond.targets.registry import import_kinds
from tests.support.sabotage import install


def _child(order: dict[str, Any]) -> NoReturn:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(str(order[name]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    if order["orders"] or order["log"]:
        install(order)
    if order["all_is_old"]:
        # A file's ctime cannot be set back; so nothing is too young for a repair.
        auditor.YOUNG = timedelta(0)  # type: ignore[misc]
    sys.argv = ["retentiond", *order["words"]]
    status = 0
    try:
        cli.main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _load() -> None:
    """Import all that the program imports only when it is used, so that no child has to."""
    import_kinds()
    for module in pkgutil.iter_modules(cli.__path__, f"{cli.__name__}."):
        import_module(module.name)
    # A child that collects garbage would otherwise copy every page.
    gc.collect()
    gc.freeze()


def _serve() -> None:
    process = 0
    for line in sys.stdin:
        if process:
            # Not sooner: until now its number could be killed, and must not be another's.
            os.waitpid(process, 0)
        process = os.fork()
        if process == 0:
            _child(json.loads(line))
        _answer(process)
        ended = os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        _answer(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status)


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _load()
    _serve()
