"""Waveforms in object stores: the public archives of SCEDC and NCEDC on AWS, and buckets of day files.

``s3:scedc``, ``s3:ncedc``, or ``s3://BUCKET/PREFIX?layout=LAYOUT`` with a layout of :mod:`xcorr.pes.reading.layouts`.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import fnmatch
import hashlib
import os
import threading
import urllib.parse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from xcorr.core.options import option
from xcorr.pes.items import Candidate
from xcorr.pes.reading.day_files import SLACK_NS, read_day
from xcorr.pes.reading.files import in_order
from xcorr.pes.reading.layouts import LAYOUTS, Layout, LayoutError, layout_of
from xcorr.pes.reading.source import Coverage, Fingerprint, Index, ReadError, Source, SourceError, Wanted
from xcorr.pes.reading.waveform import DAY_NS, Answer
from xcorr.pes.reading.waveform_file import read_waveforms

SIGNED = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
MOST_DAYS = 366 * 200
RECENT = 64 << 20  # bytes of objects that a worker keeps


@dataclasses.dataclass(frozen=True)
class S3Options:
    """How requests are sent to an object store."""

    endpoint: str = option("", "Address of the store. Default: AWS_ENDPOINT_URL, else that of AWS.")
    region: str = option("", "Region of the bucket. Default: that of the public archive, else AWS_REGION.")
    access: str = option(
        "auto",
        "anonymous, signed (by the usual variables AWS_ACCESS_KEY_ID ...), or auto: signed if there are such "
        "variables, and anonymous for the public archives.",
        choices=("auto", "anonymous", "signed"),
    )
    spill: bool = option(
        False,
        "Also get the object of the day before, for samples of its last record that are of the next day: two requests "
        "for each channel and day in place of one.",
    )
    at_once: int = option(16, "Objects that each worker gets at the same time.", least=1, most=256)
    retries: int = option(5, "Times that a failed request is repeated. The wait doubles each time.", least=0, most=50)
    timeout_s: float = option(60.0, "Time for a request, after which it failed.", least=0.1)


class S3(Source):
    """A bucket of an S3 service."""

    usage = "s3:scedc, s3:ncedc, s3://BUCKET/PREFIX?layout=scedc|ncedc|sds|TEMPLATE (object stores)"
    Options = S3Options

    def __init__(self, place: str, options: S3Options | None = None) -> None:
        super().__init__(place, options)
        self.bucket, self.prefix, self.layout, self.is_public = _placed(place)
        self._store: Any = None
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._coming: dict[str, concurrent.futures.Future[bytes]] = {}
        self._recent: dict[str, bytes] = {}  # the oldest first; chunks of less than a day read an object again
        self._lock = threading.Lock()

    @classmethod
    def absolute(cls, place: str, folder: str) -> str:
        """Return the place unchanged, because it means the same in every folder."""
        return place

    def index(self, wanted: Wanted) -> Index:
        """List the folders of the days wanted: a page of a thousand keys is one request."""
        address = f"s3:{self.place}"
        if wanted.start_ns is None or wanted.end_ns is None:
            raise SourceError(
                f"data.source = {address!r}: an object store needs data.start and data.end; set both (--start, --end)"
            )
        first, stop = wanted.start_ns // DAY_NS, -(-wanted.end_ns // DAY_NS)
        if stop - first > MOST_DAYS:
            raise SourceError(
                f"data.source = {address!r}: {stop - first} days are too many; choose data.start and data.end"
            )
        first -= self.options.spill
        prefixes = self.layout.prefixes(wanted.stations, range(first, stop))
        coverages: dict[tuple[str, str], list[Coverage]] = defaultdict(list)
        others: set[tuple[str, str]] = set()
        for listed in self._each(self._list, prefixes):
            for key, size, tag in listed:
                name = self.layout.name(key)
                if name is None or not first <= name.start_ns // DAY_NS < stop:
                    continue
                of = name.network, name.station
                if any(fnmatch.fnmatchcase(of[0], n) and fnmatch.fnmatchcase(of[1], s) for n, s in wanted.stations):
                    coverages[of].append(Coverage(*name, name.start_ns + DAY_NS, f"{key}#{size}-{tag}"))
                else:
                    others.add(of)
        return Index(address, in_order(coverages), slack_ns=SLACK_NS * self.options.spill, others=tuple(sorted(others)))

    def prefetch(self, references: Sequence[str]) -> None:
        """Begin to get objects that will be read."""
        with self._lock:
            if self._pool is None:
                self._pool = concurrent.futures.ThreadPoolExecutor(self.options.at_once, "xcorr-s3")
            for reference in references:
                if reference not in self._coming and reference not in self._recent:
                    self._coming[reference] = self._pool.submit(self._get, reference)

    def read(self, reference: str, channels: Sequence[Candidate], start_ns: int, end_ns: int) -> Answer:
        """Return the waveforms of an object, and what was wrong; none if the object is not there any more."""
        content = self._content(reference)
        key = reference.rpartition("#")[0]
        name = self.layout.name(key)
        assert name is not None
        if not content:
            return Answer([], [], [f"{key}: is not there any more"])

        def read(first: int | None, last: int | None) -> Answer:
            found, wrong, notes = read_waveforms(content, first, last)
            return Answer(found, [f"{os.path.basename(key)}: {text}" for text in wrong], notes)

        return read_day(read, name, os.path.basename(key), start_ns, end_ns)

    def _content(self, reference: str) -> bytes:
        self.prefetch([reference])
        with self._lock:
            content = self._recent.pop(reference, None)
            coming = self._coming.pop(reference, None)
        if content is None:
            assert coming is not None
            content = coming.result()
        with self._lock:
            self._recent[reference] = content
            while sum(map(len, self._recent.values())) > RECENT:
                del self._recent[next(iter(self._recent))]
        return content

    def fingerprint(self, reference: str) -> Fingerprint | None:
        """Return key, size, and a number of the ETag: all of them are in the reference, as they were listed."""
        key, _, about = reference.rpartition("#")
        size, _, tag = about.partition("-")
        number = int.from_bytes(hashlib.blake2b(tag.encode(), digest_size=8).digest(), "big") >> 1
        return key, int(size), number

    def rate_hz(self, reference: str) -> float | None:
        """Return None: the rate is not known before the object is read."""
        return None

    def metadata(self, wanted: Wanted, responses: bool) -> bytes | None:
        """Return StationXML of the stations from the archive, if it has any beside its waveforms."""
        if not self.layout.metadata:
            return None
        keys = [self.layout.metadata.format(net=n, sta=s) for n, s in wanted.exact or ()]
        found = [content for content in self._each(self._get, keys) if content]
        return _joined(found) if found else None

    # -- requests ------------------------------------------------------------------------------------------------

    @property
    def store(self) -> Any:
        """The connection, made when it is first needed."""
        with self._lock:
            if self._store is None:
                self._store = _connected(self.bucket, self.layout, self.is_public, self.options)
            return self._store

    def _each(self, function: Any, over: Sequence[str]) -> Iterator[Any]:
        """Yield what a function returns, in order, several at once."""
        _ = self.store
        with concurrent.futures.ThreadPoolExecutor(self.options.at_once) as pool:
            yield from pool.map(function, over)

    def _list(self, prefix: str) -> list[tuple[str, int, str]]:
        """Return keys below the prefix of the source, with sizes and ETags."""
        import obstore

        try:
            pages = obstore.list(self.store, self.prefix + prefix.rstrip("/") or None)
            listed = [one for page in pages for one in page]
        except Exception as error:  # obstore has errors of its own for each cause
            raise SourceError(f"s3:{self.place}: {prefix}: {_said(error)}") from None
        start = len(self.prefix)
        return [(one["path"][start:], one["size"], (one["e_tag"] or "").strip('"')) for one in listed]

    def _get(self, reference: str) -> bytes:
        """Return the content of an object; empty if it is not there. Raises ReadError if it cannot be had now."""
        import obstore

        key, _, about = reference.rpartition("#") if "#" in reference else (reference, "", "")
        size, _, tag = about.partition("-")
        options: Any = {"if_match": f'"{tag}"'} if tag else None
        try:
            content = bytes(obstore.get(self.store, self.prefix + key, options=options).bytes())
        except (FileNotFoundError, obstore.exceptions.NotFoundError):
            return b""
        except obstore.exceptions.PreconditionError:
            raise ReadError(f"{key}: has changed since it was listed; repeat the command") from None
        except Exception as error:
            raise ReadError(f"{key}: {_said(error)}") from None
        if size and len(content) != int(size):
            raise ReadError(f"{key}: {len(content)} of {size} bytes came")
        return content


def _placed(place: str) -> tuple[str, str, Layout, bool]:
    """Return bucket, prefix, layout, and whether it is a public archive. Raises SourceError for another place."""
    address = f"s3:{place}"
    if place in LAYOUTS and LAYOUTS[place].bucket:
        return LAYOUTS[place].bucket, "", LAYOUTS[place], True
    parts = urllib.parse.urlsplit(address)
    asked = dict(urllib.parse.parse_qsl(parts.query))
    names = ", ".join(name for name, layout in LAYOUTS.items() if layout.bucket)
    if not parts.netloc or set(asked) != {"layout"}:
        raise SourceError(
            f"data.source = {address!r}: write s3:NAME with one of {names}, or s3://BUCKET/PREFIX?layout=LAYOUT with "
            f"one of {', '.join(LAYOUTS)} or a template"
        )
    try:
        layout = layout_of(asked["layout"])
    except LayoutError as error:
        raise SourceError(f"data.source = {address!r}: {error}") from None
    prefix = parts.path.strip("/")
    return parts.netloc, f"{prefix}/" if prefix else "", layout, False


def _connected(bucket: str, layout: Layout, is_public: bool, options: S3Options) -> Any:
    """Return a store of obstore. Raises SourceError if it is not installed."""
    try:
        from obstore.store import S3Store
    except ImportError:
        raise SourceError("s3: needs obstore: pip install 'xcorr[s3]'") from None
    endpoint = options.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    region = options.region or layout.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    is_signed = any(name in os.environ for name in SIGNED) and not is_public
    if options.access != "auto":
        is_signed = options.access == "signed"
    config: Any = {"region": region or "us-east-1"}
    if endpoint:
        config |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
    if not is_signed:
        config["skip_signature"] = True
    import datetime

    seconds = datetime.timedelta(seconds=options.timeout_s)
    try:
        return S3Store(
            bucket,
            config=config,
            client_options={"timeout": seconds, "allow_http": endpoint.startswith("http://"), "user_agent": "xcorr"},
            retry_config={"max_retries": options.retries, "retry_timeout": seconds * (options.retries + 1)},
        )
    except Exception as error:  # such as incomplete variables of the environment
        raise SourceError(f"s3: {bucket}: {_said(error)}") from None


def _said(error: Exception) -> str:
    """Return the first line of an error, without what signs a request."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text.partition("X-Amz-")[0][:300]


def _joined(documents: list[bytes]) -> bytes:
    """Return several StationXML documents as one."""
    import io

    from obspy import read_inventory

    whole = read_inventory(io.BytesIO(documents[0]), format="STATIONXML")
    for document in documents[1:]:
        whole += read_inventory(io.BytesIO(document), format="STATIONXML")
    buffer = io.BytesIO()
    whole.write(buffer, format="STATIONXML")
    return buffer.getvalue()
