"""A home of Apache Storm: the jars, resolved once from Maven Central into a cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from xcorr.mappings.storm_nimbus import StormError

VERSION = "2.8.3"
PARTS = {"lib": "storm-core", "lib-worker": "storm-client"}  # what daemons and workers have on their class path
LEFT_OUT = (  # not needed with our settings: the old Clojure interface, Kerberos, the metrics store in RocksDB
    ("org.apache.storm", "storm-clojure"),
    ("org.apache.storm", "storm-clojure-test"),
    ("org.apache.hadoop", "hadoop-auth"),
    ("org.rocksdb", "rocksdbjni"),
)
LOGGING = """<configuration monitorInterval="600"><appenders>
<RollingFile name="file" fileName="{path}" filePattern="{path}.%i">
<PatternLayout pattern="%d %p %c{{1}} %t %m%n"/><SizeBasedTriggeringPolicy size="10 MB"/>
<DefaultRolloverStrategy max="2"/></RollingFile></appenders>
<loggers><root level="info"><appender-ref ref="file"/></root></loggers></configuration>
"""
DAEMON_LOG = "${sys:storm.log.dir}/${sys:logfile.name}"
WORKER_LOG = "${sys:workers.artifacts}/${sys:storm.id}/${sys:worker.port}/${sys:logfile.name}"


def cache() -> Path:
    """Return the cache folder of xcorr, which is kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xcorr"


def java() -> str:
    """Return the program ``java``. Raises StormError where there is none."""
    found = shutil.which("java")
    if found is None:
        raise StormError(
            "a Storm cluster needs Java 17, and there is no program java; install Java (Debian: apt install "
            "openjdk-17-jre-headless), or name a cluster on another host: run.storm.nimbus = 'host:port'"
        )
    return found


def storm_home() -> Path:
    """Return the folder with Storm's jars. The first time, Maven fetches the jars.

    Raises StormError if Maven is missing or fails.
    """
    java()
    home = cache() / f"storm-{VERSION}"
    if (home / "complete").exists():
        return home
    maven = shutil.which("mvn")
    if maven is None:
        raise StormError("the first Storm cluster here needs Maven (Debian: apt install maven) to get Storm's jars")
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".storm-") as outer:
        folder = Path(outer, home.name)
        folder.mkdir()
        for part, artifact in PARTS.items():
            _resolve(maven, artifact, folder / part)
        (folder / "log4j2").mkdir()
        (folder / "log4j2" / "cluster.xml").write_text(LOGGING.format(path=DAEMON_LOG))
        (folder / "log4j2" / "worker.xml").write_text(LOGGING.format(path=WORKER_LOG))
        (folder / "complete").touch()
        if not home.exists():  # another process may have been faster
            folder.rename(home)
    return home


def _resolve(maven: str, artifact: str, target: Path) -> None:
    """Copy an artifact's jars, and those it needs to run, into a folder."""
    left_out = "".join(
        f"<exclusion><groupId>{g}</groupId><artifactId>{a}</artifactId></exclusion>" for g, a in LEFT_OUT
    )
    target.mkdir()
    pom = target.with_suffix(".xml")
    pom.write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        f"<groupId>xcorr</groupId><artifactId>{artifact}-home</artifactId><version>1</version>"
        "<packaging>pom</packaging><dependencies><dependency><groupId>org.apache.storm</groupId>"
        f"<artifactId>{artifact}</artifactId><version>{VERSION}</version>"
        f"<exclusions>{left_out}</exclusions></dependency></dependencies></project>"
    )
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={target}"]
    command = [maven, "-q", "-B", "-f", str(pom), *goal]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=target.parent)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
        raise StormError(f"Maven could not get Storm {VERSION}: {(lines or ['no reason given'])[0]}")
