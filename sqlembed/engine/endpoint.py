"""Ask a model's server, again where that may help: the one file that imports ``httpx2``.

Nothing here knows what is asked; ``remote`` does.
"""

import json
import re
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from random import uniform
from threading import Event
from typing import Any, NoReturn

import httpx2

from sqlembed import __version__, settings
from sqlembed.errors import ModelError, ServerError
from sqlembed.weights.server import Server

AGAIN = frozenset({408, 429, 502, 503, 504})
"""Statuses that say: not now."""
REJECTED = frozenset({400, 413, 422, 424, 500})
"""Statuses that may be about what was sent: another text may pass."""
TOO_LARGE = re.compile(
    r"too (large|long)|maximum context|context (size|length)|must have less than"
    r"|(exceeds?|>|larger than|longer than) .*(max|limit)|batch size",
    re.IGNORECASE,
)
"""What llama-server, text-embeddings-inference, vLLM and OpenAI say of too much in a request."""
FIRST_PAUSE = 0.25
"""Seconds before the second try; each later pause is twice as long, less up to a half by chance."""
LONGEST_PAUSE = 8.0
MOST_WORDS = 65536
"""Bytes of an error's body that are read."""
SHOWN = 300
"""Characters of what the server says that are shown."""


class RejectedError(ModelError):
    """The server will not have what was sent."""

    def __init__(self, words: str, too_large: bool) -> None:
        """*too_large* if less of it may pass."""
        super().__init__(words)
        self.too_large = too_large


class _NotNowError(Exception):
    """Try again; after so many seconds, where the server says when."""

    def __init__(self, words: str, after: float | None = None) -> None:
        super().__init__(words)
        self.after = after


class Endpoint:
    """A server, for many threads at once."""

    def __init__(self, name: str, server: Server) -> None:
        """Ask nothing yet.

        :param name: the model's, for messages
        :raises ServerError: the variable that has the key is not set
        """
        self._name = name
        self._server = server
        self.url = server.url.rstrip("/")
        self._stopped = Event()
        self._key = self._read_key()
        headers = {"Content-Type": "application/json", "User-Agent": f"sqlembed/{__version__}"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        self._client = httpx2.Client(
            headers=headers,
            timeout=server.timeout,
            limits=httpx2.Limits(max_connections=server.concurrency),
            follow_redirects=False,  # the key is for this server
            trust_env=not _is_here(httpx2.URL(self.url).host),  # a proxy is for other machines
        )

    def post(self, path: str, body: Mapping[str, Any], most_bytes: int) -> Any:
        """The server's answer, parsed.

        :param most_bytes: of a right answer
        :raises RejectedError: what was sent is refused
        :raises ServerError: no answer, another refusal, or what is no JSON
        """
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        begun, tries = time.monotonic(), 0
        while True:
            tries += 1
            try:
                data = self._once(path, content, most_bytes)
                break
            except _NotNowError as error:
                self._pause_or_give_up(path, error, tries, time.monotonic() - begun)
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self.error(path, f"answered what is no JSON: {_shown(data)!r}") from error

    def error(self, path: str, words: str) -> ServerError:
        """The error for what the server did."""
        return ServerError(f"{self._name}: {self.url}{path} {self._without_key(words)}")

    def close(self) -> None:
        """Try nothing again, and close the connections."""
        self._stopped.set()
        self._client.close()

    def _read_key(self) -> str | None:
        variable = self._server.key_variable
        if variable is None:
            return None
        key = settings.secret(variable)
        if key is None:
            raise ServerError(
                f"{self._name}: its manifest says that the key of {self._server.url} is in the"
                f" environment variable {variable}, which is not set in this process"
            )
        if not key.isascii() or not key.isprintable():
            raise ServerError(f"{self._name}: the key in {variable} has characters that no key has")
        return key

    def _once(self, path: str, content: bytes, most_bytes: int) -> bytes:
        until = time.monotonic() + self._server.timeout
        with (
            self._troubles(path),
            self._client.stream("POST", self.url + path, content=content) as r,
        ):
            good = r.is_success
            data = bytearray()
            for piece in r.iter_bytes():
                data += piece
                if len(data) > (most_bytes if good else MOST_WORDS):
                    if good:
                        raise self.error(
                            path, f"sent more than {most_bytes} bytes, which no right answer has"
                        )
                    break
                if time.monotonic() > until:
                    raise httpx2.ReadTimeout(f"not whole after {self._server.timeout:g} seconds")
            if good:
                return bytes(data)
        self._refuse(path, r, bytes(data))

    @contextmanager
    def _troubles(self, path: str) -> Iterator[None]:
        try:
            yield
        except httpx2.TimeoutException as error:
            words = f"did not answer within {self._server.timeout:g} seconds"
            raise _NotNowError(words) from error
        except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
            words = f"cannot be reached: {error or type(error).__name__}"
            if _is_certificate(error):
                raise self.error(path, words) from error
            raise _NotNowError(words) from error
        except httpx2.HTTPError as error:
            raise self.error(path, f"cannot be asked: {error or type(error).__name__}") from error

    def _refuse(self, path: str, response: httpx2.Response, data: bytes) -> NoReturn:
        status, said = response.status_code, _said(data)
        words = f"answered {status} {response.reason_phrase}: {said or 'and no more'}"
        if status in AGAIN:
            raise _NotNowError(words, _seconds(response.headers.get("Retry-After")))
        if status in REJECTED:
            too_large = status == 413 or bool(TOO_LARGE.search(said))
            raise RejectedError(str(self.error(path, words)), too_large)
        if response.is_redirect:
            words += (
                f"; it is somewhere else ({httpx2.URL(self.url).host} sent us away): correct url"
            )
        elif status in (401, 403):
            words += f"; the key is taken from key_variable = {self._server.key_variable!r}"
        elif status == 404:
            words += "; url in the manifest ends before /embeddings or /rerank, often with /v1"
        raise self.error(path, words)

    def _pause_or_give_up(self, path: str, error: _NotNowError, tries: int, passed: float) -> None:
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (tries - 1)) * uniform(0.5, 1)
        pause = max(pause, error.after or 0)
        if passed + pause > self._server.patience:
            after = "" if error.after is None else f" (it said: again in {error.after:g} seconds)"
            raise self.error(
                path,
                f"{error}{after}; tried {tries} times in {passed:.1f} seconds, and patience is"
                f" {self._server.patience:g}. See that it runs, or try again later",
            ) from error
        if self._pause(pause):
            raise self.error(path, f"{error}; the model is being unloaded") from error

    def _pause(self, seconds: float) -> bool:
        """Wait; True if the model is closed meanwhile."""
        return self._stopped.wait(seconds)

    def _without_key(self, words: str) -> str:
        return words.replace(self._key, "***") if self._key else words


def _said(data: bytes) -> str:
    """What an error's body says, in the forms that servers use."""
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        return _shown(data)
    for key in ("error", "message", "detail"):
        if isinstance(told, dict) and told.get(key):
            told = told[key]
    return _shown(told if isinstance(told, str) else json.dumps(told))


def _shown(data: bytes | str) -> str:
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= SHOWN else plain[:SHOWN] + "..."


def _seconds(after: str | None) -> float | None:
    """What Retry-After says, in seconds: a number, or a date."""
    if after is None:
        return None
    if after.strip().isdecimal():
        return float(after)
    try:
        when = parsedate_to_datetime(after)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
