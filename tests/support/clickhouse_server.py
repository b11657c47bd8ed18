"""A real ClickHouse for the tests: the engine of a wheel, started and killed as they like; or one that is named."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_VERSION = "26.9.0"
_START_SECONDS = 120.0
_CONFIG = """\
<clickhouse>
  <listen_host>127.0.0.1</listen_host><http_port>{port}</http_port><tcp_port>{tcp}</tcp_port><timezone>UTC</timezone>
  <logger><level>warning</level><log>{directory}/server.log</log></logger>
  <path>{directory}/data/</path><tmp_path>{directory}/data/tmp/</tmp_path>
  <users_config>{directory}/users.xml</users_config>
  <default_profile>default</default_profile><default_database>default</default_database>
  <background_pool_size>4</background_pool_size>
  <merge_tree>
    <old_parts_lifetime>480</old_parts_lifetime>
    <number_of_free_entries_in_pool_to_execute_mutation>1</number_of_free_entries_in_pool_to_execute_mutation>
  </merge_tree>
  <remote_servers>
    <alone><shard><replica><host>127.0.0.1</host><port>{tcp}</port></replica></shard></alone>
    <halved>
      <shard><replica><host>127.0.0.1</host><port>{tcp}</port></replica></shard>
      <shard><replica><host>127.0.0.1</host><port>1</port></replica></shard>
    </halved>
    <twice>
      <shard><replica><host>127.0.0.1</host><port>{tcp}</port></replica></shard>
      <shard><replica><host>localhost</host><port>{tcp}</port></replica></shard>
    </twice>{neighbours}
  </remote_servers>{macros}
</clickhouse>
"""
_USERS = """\
<clickhouse>
  <profiles>
    <default><mutations_sync>1</mutations_sync></default>
    <hasty>
      <max_threads>1</max_threads><max_rows_to_read>1</max_rows_to_read><read_overflow_mode>break</read_overflow_mode>
    </hasty>
    <nulls><transform_null_in>1</transform_null_in></nulls>
    <odd>
      <apply_mutations_on_fly>1</apply_mutations_on_fly><apply_deleted_mask>0</apply_deleted_mask>
      <final>1</final><limit>1</limit><enable_positional_arguments>0</enable_positional_arguments>
      <session_timezone>Asia/Tokyo</session_timezone><skip_unavailable_shards>1</skip_unavailable_shards>
    </odd>
    <wary><max_partition_size_to_drop>1</max_partition_size_to_drop></wary>
    <slow><max_threads>1</max_threads></slow>
  </profiles>
  <quotas><default/></quotas>
  <users>
    <default>
      <password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>
      <access_management>1</access_management>
    </default>
    <reader>
      <password>secret</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
      <quota>default</quota><grants><query>GRANT SELECT ON *.*</query></grants>
    </reader>
    <narrow>
      <password>secret</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
      <quota>default</quota><databases><retentiond_test><thread><filter>account = 'acme'</filter></thread></retentiond_test></databases>
    </narrow>
    <hasty>
      <password>secret</password><networks><ip>127.0.0.1</ip></networks><profile>hasty</profile>
      <quota>default</quota>
    </hasty>
    <nulls>
      <password>secret</password><networks><ip>127.0.0.1</ip></networks><profile>nulls</profile>
      <quota>default</quota>
    </nulls>
    <odd>
      <password>secret</password><networks><ip>127.0.0.1</ip></networks><profile>odd</profile><quota>default</quota>
    </odd>
    <wary>
      <password>secret</password><networks><ip>127.0.0.1</ip></networks><profile>wary</profile><quota>default</quota>
    </wary>
    <lonely>
      <password>secret</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
      <quota>default</quota><grants>
        <query>GRANT SELECT, ALTER DELETE ON retentiond_test.*</query><query>GRANT SELECT ON system.*</query>
      </grants>
    </lonely>
    <slow>
      <password>secret</password><networks><ip>127.0.0.1</ip></networks><profile>slow</profile>
      <quota>default</quota>
      <databases><retentiond_test><thread><filter>threadid NOT IN (SELECT number FROM system.numbers
        WHERE sipHash64(number) = 1)</filter></thread></retentiond_test></databases>
    </slow>
{guests}
    <blind>
      <password>secret</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>
      <quota>default</quota><grants>
        <query>GRANT SELECT, ALTER DELETE ON retentiond_test.*</query><query>GRANT SELECT ON system.replicas</query>
      </grants>
    </blind>
  </users>
</clickhouse>
"""

GRANTS = (
    "SELECT(account, created, threadid, _part, _partition_id, _row_exists) ON retentiond_test.thread",
    "ALTER DELETE ON retentiond_test.thread",
    "SELECT ON system.mutations",
    "SELECT ON system.merges",
    "SELECT ON system.parts",
    "SELECT ON system.detached_parts",
    "SELECT ON system.replicas",
    "SELECT ON system.clusters",
    "SELECT ON system.macros",
    "CREATE TEMPORARY TABLE ON *.*",
)
"""What a user of a table on one server needs; `granted` has all of it, and `without_N` all but the Nth."""


def _guests() -> Iterator[str]:
    users = {"granted": GRANTS, "stranger": ()}
    users |= {f"without_{place}": (*GRANTS[:place], *GRANTS[place + 1 :]) for place in range(len(GRANTS))}
    for name, grants in users.items():
        # Without a query here it would be everything.
        queries = "".join(f"<query>GRANT {grant}</query>" for grant in ("SELECT ON system.one", *grants))
        yield (
            f"<{name}><password>secret</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>"
            f"<quota>default</quota><grants>{queries}</grants></{name}>"
        )


def fetched_engine() -> Path:
    """Return where the engine's package lies, fetched at the first time; raises CalledProcessError where it cannot be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = cache / "retentiond-tests" / f"chdb-core-{_VERSION}"
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("w") as lock:
        # Two processes of one run may ask at the same time.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "fetched").exists():
            words = ["install", "--quiet", "--no-deps", "--target", str(place), f"chdb-core=={_VERSION}"]
            subprocess.run([sys.executable, "-m", "pip", *words], check=True, capture_output=True)
            (place / "fetched").touch()
    return place


class ClickHouseServer:
    """A server with its data in a directory; after `kill` it can be started again on the same.

    With `shards`, which are the ports of its native protocol and others', the first its own, it is one of the cluster
    `several`.
    """

    def __init__(self, directory: Path, shards: Sequence[int] = ()) -> None:
        self._directory = directory
        self._engine = fetched_engine()
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        self._native = bool(shards)
        each = "".join(
            f"<shard><replica><host>127.0.0.1</host><port>{one}</port></replica></shard>"
            for one in sorted(shards)
        )
        (directory / "data" / "tmp").mkdir(parents=True)
        several = {
            "neighbours": f"<several>{each}</several>" if each else "",
            "macros": f"<macros><cluster>several</cluster><shard>{shards[0]}</shard></macros>"
            if each
            else "",
        }
        config = _CONFIG.format(
            port=self._port, tcp=shards[0] if shards else self._port, directory=directory, **several
        )
        (directory / "config.xml").write_text(config)
        (directory / "users.xml").write_text(_USERS.replace("{guests}", "".join(_guests())))

    @property
    def url(self) -> str:
        """Its HTTP interface."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def runs(self) -> bool:
        """Whether it was started, and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it answers."""
        engine = Path(__file__).with_name("clickhouse_engine.py")
        with (self._directory / "out").open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(engine), str(self._directory), *(["native"] * self._native)],
                env={**os.environ, "CHDB_CORE": str(self._engine), "TZ": "UTC"},
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self._directory / "out").read_text(errors="replace")[-2000:]
            assert time.monotonic() < deadline, "ClickHouse does not answer"
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            with urlopen(f"{self.url}/ping", timeout=5) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def kill(self) -> None:
        """Kill it as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
