"""A real OpenSearch or Elasticsearch for the tests: the official minimal distribution with its reindex module, by Maven."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Literal, get_args
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.support.chance import NIGHTLY
from tests.support.ports import free_port

Product = Literal["opensearch", "elasticsearch"]

on_both_servers = pytest.mark.parametrize("server", get_args(Product), indirect=True)
"""For a test that has both servers by day, too."""

VERSIONS: dict[Product, str] = {"opensearch": "3.4.0", "elasticsearch": "7.17.29"}
_JAVA: dict[Product, int] = {"opensearch": 21, "elasticsearch": 11}
_START_SECONDS = 180.0
_POM = """\
<project><modelVersion>4.0.0</modelVersion><groupId>test</groupId><artifactId>test</artifactId><version>1</version>
<packaging>pom</packaging><dependencies>
  <dependency><groupId>org.{product}.distribution.integ-test-zip</groupId><artifactId>{product}</artifactId>
    <version>{version}</version><type>zip</type>
    <exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions></dependency>
  <dependency><groupId>org.{product}.plugin</groupId><artifactId>reindex-client</artifactId><version>{version}</version></dependency>
</dependencies></project>
"""
_CONFIG = """\
cluster.name: retentiond-test
node.name: test
network.host: 127.0.0.1
http.port: {port}
discovery.type: single-node
path.data: {directory}/data
path.logs: {directory}/logs
cluster.routing.allocation.disk.threshold_enabled: false
"""


class NotToBeHadError(Exception):
    """The server cannot be fetched or run here; its text says what is missing."""


def _java(product: Product) -> Path:
    """Return the home of the first Java that is new enough, of those that are installed."""
    found = shutil.which("java")
    homes = [Path(found).resolve().parents[1]] if found else []
    homes += sorted(Path("/usr/lib/jvm").glob("*"))
    for home in homes:
        told = (
            subprocess.run([home / "bin/java", "-version"], capture_output=True, text=True, check=False)
            if (home / "bin/java").exists()
            else None
        )
        version = re.search(r'version "(\d+)', told.stderr) if told else None
        if version and int(version[1]) >= _JAVA[product]:
            return home
    raise NotToBeHadError(f"there is no Java {_JAVA[product]} or newer")


def servers_of_each_test() -> tuple[Product, ...]:
    """Return the servers of a test that names none: OpenSearch by day, both by night.

    By day it is both, too, where the environment names an Elasticsearch, or where OpenSearch cannot run.
    """
    both: tuple[Product, ...] = get_args(Product)
    if NIGHTLY or os.environ.get("RETENTIOND_TEST_ELASTICSEARCH_URL"):
        return both
    if not os.environ.get("RETENTIOND_TEST_OPENSEARCH_URL"):
        try:
            _java("opensearch")
        except NotToBeHadError:
            return both
    return ("opensearch",)


def _cache() -> Path:
    # Started by root the server runs as nobody, who sees nothing below root's home.
    if os.geteuid() == 0:
        return Path("/var/cache/retentiond-tests")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "retentiond-tests"


def fetched(product: Product) -> Path:
    """Return the distribution's directory, fetched at the first time; raises NotToBeHadError."""
    version = VERSIONS[product]
    home = _cache() / f"{product}-{version}"
    if home.exists():
        return home
    if shutil.which("mvn") is None:
        raise NotToBeHadError("there is no mvn (Debian: apt install maven)")
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as temporary:
        place = Path(temporary)
        (place / "pom.xml").write_text(_POM.format(product=product, version=version))
        words = ["mvn", "-q", "-B", "-f", str(place / "pom.xml"), "dependency:copy-dependencies"]
        words += ["-DincludeScope=runtime", f"-DoutputDirectory={place / 'jars'}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotToBeHadError(
                f"mvn cannot fetch {product} {version}: {(done.stdout + done.stderr)[-300:]}"
            )
        _unpack(place / f"jars/{product}-{version}.zip", place)
        _add_reindex(place / f"{product}-{version}", place / "jars", product, version)
        place.chmod(0o755)
        (place / f"{product}-{version}").rename(home)
    return home


def _unpack(archive: Path, place: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            path = Path(opened.extract(member, place))
            # The library leaves out what may be run.
            mode = member.external_attr >> 16 & 0o777
            if mode and not member.is_dir():
                path.chmod(mode)


def _add_reindex(unpacked: Path, jars: Path, product: Product, version: str) -> None:
    module = unpacked / "modules/reindex"
    module.mkdir()
    there = {jar.name for jar in (unpacked / "lib").glob("*.jar")}
    for jar in jars.glob("*.jar"):
        # A class that is there twice keeps the server from starting.
        if jar.name not in there:
            shutil.copy(jar, module)
    with zipfile.ZipFile(module / f"reindex-client-{version}.jar") as opened:
        (plugin,) = (
            name for name in opened.namelist() if re.search(r"/Reindex(Module)?Plugin\.class$", name)
        )
    properties = (unpacked / "modules/transport-netty4/plugin-descriptor.properties").read_text()
    classname = plugin.removesuffix(".class").replace("/", ".")
    for key, value in (("name", "reindex"), ("classname", classname), ("description", "reindex")):
        properties = re.sub(rf"^{key}=.*$", f"{key}={value}", properties, flags=re.MULTILINE)
    (module / "plugin-descriptor.properties").write_text(properties)
    (unpacked / "config/jvm.options.d/test.options").write_text("-Xms384m\n-Xmx384m\n")


class SearchServer:
    """A server with its data in a directory; after `kill` it can be started again on the same."""

    def __init__(self, directory: Path, product: Product) -> None:
        self._product: Product = product
        self._java = _java(product)
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        self._directory = directory
        # It writes into its own configuration, so each server has a copy.
        self._home = directory / "home"
        shutil.copytree(fetched(product), self._home, symlinks=True)
        for name in ("data", "logs", "tmp"):
            (directory / name).mkdir()
        (self._home / f"config/{product}.yml").write_text(
            _CONFIG.format(port=self._port, directory=directory)
        )
        # It does not live for long enough to earn back what its better compiler costs.
        (self._home / "config/jvm.options.d/quick.options").write_text("-XX:TieredStopAtLevel=1\n")
        self._user: dict[str, object] = {}
        if os.geteuid() == 0:
            self._user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            subprocess.run(["chown", "-R", "nobody:nogroup", str(directory)], check=True)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        variable = "OPENSEARCH_JAVA_HOME" if self._product == "opensearch" else "ES_JAVA_HOME"
        environment = {
            "PATH": os.defpath,
            "HOME": str(self._directory),
            "TMPDIR": str(self._directory / "tmp"),
            variable: str(self._java),
        }
        with (self._directory / "logs/out").open("ab") as output:
            self._process = subprocess.Popen(
                [str(self._home / "bin" / self._product)],
                cwd=self._directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                **self._user,  # type: ignore[call-overload]  # three of its keywords
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            told = (self._directory / "logs/out").read_text(errors="replace")[-2000:]
            assert self._process.poll() is None, told
            assert time.monotonic() < deadline, told
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            with urlopen(
                f"{self.url}/_cluster/health?wait_for_status=yellow&timeout=1s", timeout=5
            ) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def kill(self) -> None:
        """Kill it as a power cut would, and whatever it started."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
