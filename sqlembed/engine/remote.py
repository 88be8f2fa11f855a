"""A model on a server: prompts, chunks and probes are ours, vectors and scores are its own.

The server has OpenAI's ``/v1/embeddings``, or for a reranker ``/rerank`` as Jina, Cohere and
text-embeddings-inference have it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from sqlembed.engine import answers, probes
from sqlembed.engine.answers import NonsenseError, UnfitError
from sqlembed.engine.chunk import chunk
from sqlembed.engine.counting import counter_of
from sqlembed.engine.endpoint import Endpoint, RejectedError
from sqlembed.engine.late import Tokens
from sqlembed.engine.metrics import ModelFigures
from sqlembed.engine.pooling import Vectors, unit
from sqlembed.engine.reader import Reader
from sqlembed.engine.scheduler import Scheduler
from sqlembed.engine.waiting import Room
from sqlembed.errors import ModelError, ProbeError, TextTooLongError, VectorError
from sqlembed.weights.manifest import Manifest, Probe, Role
from sqlembed.weights.server import Server

EMBEDDINGS, RERANK = "/embeddings", "/rerank"
NUMBER_BYTES = 40
"""Of a number in JSON, at most."""
OTHER_BYTES = 1 << 20
"""Of what else an answer has."""


@dataclass(frozen=True)
class Sent:
    """A text as it is sent, with its prompt; of a pair also the query."""

    text: str
    tokens: int
    query: str = ""

    def __len__(self) -> int:
        return self.tokens


class ServerModel(Reader):
    """A model on a server, for many threads at once."""

    def __init__(self, manifest: Manifest, *, unprobed: bool = False) -> None:
        """Ask the server for the manifest's probes.

        :param unprobed: ask for none, since they are to be taken
        :raises ServerError: it does not answer, or refuses
        :raises ProbeError: its model is not the one that the probes are of
        """
        super().__init__(manifest)
        assert manifest.server is not None
        self._server = manifest.server
        rider = None if unprobed else _rider(manifest)
        self._counter = counter_of(self._server)
        self._figures = ModelFigures(manifest.name)
        self._endpoint = Endpoint(manifest.name, self._server)
        sender = _Sender(self, self._endpoint, self._server, rider)
        batch = self._server.batch - (rider is not None)
        self._scheduler = Scheduler(
            manifest.name,
            [sender] * self._server.concurrency,
            room=Room(batch * manifest.context, batch),
            elsewhere=True,
        )
        if unprobed:
            return
        try:
            probes.check(self, _to_blame(self._server))
        except BaseException:
            self.close()
            raise

    def embed(self, texts: Sequence[str], role: Role, width: int | None = None) -> Vectors:
        """The unit vector of each text.

        :param width: None, since a server has no heads that we know
        :returns: float32 of shape (n, dimension)
        :raises TextTooLongError: a text has more tokens than the model reads
        """
        if not texts:
            return np.empty((0, self.manifest.dimension), dtype=np.float32)
        prompt = self.manifest.prompt(role)
        with self._figures.tokenization.time():
            counts = self.count(texts, role)
        for text, tokens in zip(texts, counts, strict=True):
            if tokens > self.manifest.context:
                raise self.too_long(text, tokens, self._counter.what)
        sent = [Sent(prompt + text, tokens) for text, tokens in zip(texts, counts, strict=True)]
        return np.stack(self._scheduler.run(sent, _same))

    def tokens(self, texts: Sequence[str], role: Role) -> list[Tokens]:
        """Refuse: a server gives a vector a text, and none a token."""
        raise ModelError(f"{self.manifest.name} is on a server, which gives no tokens' vectors")

    def score(self, query: str, documents: Sequence[str]) -> list[float]:
        """The server's score of each document; a long document's best part counts."""
        asked = self._counter.pair(query)
        room = self.manifest.context - asked
        if room < 1:
            raise self.too_long(query, asked, self._counter.what)
        parts = chunk(documents, room, self._counter.plain)
        sent = [Sent(part.text, asked + part.tokens, query) for each in parts for part in each]
        scored = iter(self._scheduler.run(sent, _only))
        return [max(next(scored) for _ in chunks) for chunks in parts]

    def count(self, texts: Sequence[str], role: Role = "document") -> list[int]:
        """Tokens of each text, prompt, start and end tokens included; at least as many."""
        prompt = self.manifest.prompt(role)
        return self._counter.count([prompt + text for text in texts])

    def waiting(self) -> dict[str, int]:
        """Texts that wait to be sent by lane, ``urgent`` and ``backlog``."""
        return self._scheduler.waiting()

    def close(self) -> None:
        """Try nothing again, and close the connections."""
        self._endpoint.close()
        self._scheduler.close()


class _Sender:
    """Sends one batch at a time for each thread that calls it."""

    def __init__(
        self, model: ServerModel, endpoint: Endpoint, server: Server, rider: Probe | None
    ) -> None:
        self._model = model
        self._manifest = model.manifest
        self._endpoint = endpoint
        self._server = server
        self._rider = rider

    def use_threads(self, count: int) -> None:
        """Nothing: the server has its own."""

    def encode(self, texts: Sequence[Sent]) -> list[Vectors]:
        """Ask for one batch; in halves if the server finds it too large."""
        try:
            if self._manifest.kind == "reranker":
                groups = groupby(texts, lambda sent: sent.query)
                return [row for query, each in groups for row in self._scores(query, list(each))]
            return self._vectors(texts)
        except RejectedError as error:
            if not error.too_large:
                raise
            if len(texts) > 1:
                middle = len(texts) // 2
                return [*self.encode(texts[:middle]), *self.encode(texts[middle:])]
            raise self._too_long(texts[0], error) from error

    def _vectors(self, texts: Sequence[Sent]) -> list[Vectors]:
        rider, manifest = self._rider, self._manifest
        inputs = [sent.text for sent in texts]
        if rider is not None:
            inputs.insert(0, manifest.prompt(rider.role) + rider.text)
        width = self._server.width or manifest.dimension
        body = {"model": self._server.model, "input": inputs, "encoding_format": "float"}
        answer = self._post(EMBEDDINGS, body, len(inputs) * width)
        try:
            found = answers.vectors(answer, len(inputs), width)[:, : manifest.dimension]
            found = unit(found)
        except NonsenseError as error:
            raise self._endpoint.error(EMBEDDINGS, f"answered {error}") from error
        except (UnfitError, VectorError) as error:
            where = f"{self._endpoint.url}{EMBEDDINGS}"
            raise VectorError(
                f"{manifest.name}: {where} answered a vector of zeros, NaN or infinity"
            ) from error
        if rider is not None and rider.vector is not None:
            blame = _to_blame(self._server)
            probes.check_vector(manifest, rider, rider.vector, found[0], blame)
            found = found[1:]
        return list(found)

    def _scores(self, query: str, texts: Sequence[Sent]) -> list[Vectors]:
        documents = [sent.text for sent in texts]
        body: dict[str, Any] = {"model": self._server.model, "query": query}
        body[self._server.documents] = documents
        if self._server.documents == "texts":
            body |= {"truncate": False, "raw_scores": self._server.logits}
        answer = self._post(RERANK, body, len(documents))
        try:
            found = answers.scores(answer, len(documents))
        except NonsenseError as error:
            raise self._endpoint.error(RERANK, f"answered {error}") from error
        except UnfitError as error:
            where = f"{self._endpoint.url}{RERANK}"
            raise VectorError(f"{self._manifest.name}: {where} answered {error}") from error
        if self._server.logits:
            found = 1 / (1 + np.exp(-found))
        return [np.array([score], dtype=np.float32) for score in found]

    def _post(self, path: str, body: dict[str, Any], numbers: int) -> Any:
        return self._endpoint.post(path, body, numbers * NUMBER_BYTES + OTHER_BYTES)

    def _too_long(self, sent: Sent, error: RejectedError) -> TextTooLongError:
        return TextTooLongError(
            f"a text of {len(sent.text)} characters is too long for the server (it begins"
            f" {sent.text[:40]!r}): {error}. It has {sent.tokens} {self._model._counter.what}, and"
            f" the manifest says that {self._manifest.name} reads {self._manifest.context} tokens:"
            " lower context there, and make its indexes anew"
        )


def _rider(manifest: Manifest) -> Probe | None:
    """The probe that goes along with every request; None for a reranker, whose query is one.

    :raises ProbeError: the manifest has none, so that another model would go unnoticed
    """
    vectors = [probe for probe in manifest.probes if probe.vector is not None]
    scores = [probe for probe in manifest.probes if probe.score is not None]
    if not (vectors if manifest.kind == "embedder" else scores):
        raise ProbeError(
            f"the manifest of {manifest.name} names a server and has no probe, so that another"
            f" model there would go unnoticed; add what this prints: sqlembed probe {manifest.name}"
        )
    if manifest.kind == "reranker":
        return None
    for probe in vectors:
        if probe.vector is not None and len(probe.vector) != manifest.dimension:
            raise ProbeError(
                f"{manifest.name}: a probe's vector has {len(probe.vector)} numbers, and dimension"
                f" is {manifest.dimension}; take its probes anew: sqlembed probe {manifest.name}"
            )
    return min(vectors, key=lambda probe: len(probe.text))


def _to_blame(server: Server) -> str:
    return (
        f"The model {server.model!r} at {server.url}, or the manifest's prompts, are not those that"
        " the probes were taken with, and nothing of it is used"
    )


def _same(row: Vectors) -> Vectors:
    return row


def _only(row: Vectors) -> float:
    return float(row[0])
