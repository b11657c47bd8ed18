"""Runs as a process of its own: the engine of the package chdb-core as a server, until it is told to end.

`python clickhouse_engine.py DIRECTORY [native]`: `config.xml` there says where it listens (by the native protocol, too,
where that is said), and `data` is where it keeps all. The
library is clickhouse-local, which listens as long as a statement runs that waits for a pipe to be closed.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import sysconfig
import threading
import types
from pathlib import Path

_ENDS = {signal.SIGTERM, signal.SIGINT}


def _load() -> types.ModuleType:
    """Load the library alone: the package's own face asks for other packages, and starts an engine of its own."""
    place = os.environ.get("CHDB_CORE") or sysconfig.get_paths()["platlib"]
    package = types.ModuleType("chdb")
    package.__path__ = [str(Path(place) / "chdb")]
    sys.modules["chdb"] = package
    sys.setdlopenflags(os.RTLD_NOW | os.RTLD_LOCAL | os.RTLD_DEEPBIND)
    (library,) = (Path(place) / "chdb").glob("_chdb*.so")
    found = importlib.util.spec_from_file_location("chdb._chdb", library)
    assert found is not None
    assert found.loader is not None
    engine = importlib.util.module_from_spec(found)
    found.loader.exec_module(engine)
    engine.set_signal_handlers_enabled(False)
    return engine


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    os.chdir(sys.argv[1])
    engine = _load()
    if not Path("open").exists():
        os.mkfifo("open")
    native = "SYSTEM START LISTEN TCP; " if sys.argv[2:] == ["native"] else ""
    script = f"SYSTEM START LISTEN HTTP; {native}SELECT * FROM file('open', 'LineAsString')"

    def serve() -> None:
        try:
            engine.query(script, "TSV", path=str(Path("data").absolute()))
        finally:
            os._exit(0)

    threading.Thread(target=serve, daemon=True).start()
    pipe = os.open("open", os.O_WRONLY)
    signal.sigwait(_ENDS)
    os.close(pipe)
    signal.pause()


if __name__ == "__main__":
    main()
