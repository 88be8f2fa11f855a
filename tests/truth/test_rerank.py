"""Late interaction ranks better than the embedder alone, on real questions and answers."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw
import datasets
import numpy as np
import pytest
from harness import Sql

import sqlembed
from sqlembed import settings
from sqlembed.engine import late
from sqlembed.engine import model as model_module
from sqlembed.engine.cache import Cache
from sqlembed.engine.late import Tokens
from sqlembed.engine.local import LocalEngine
from sqlembed.engine.model import Model
from sqlembed.weights.manifest import Role

pytestmark = pytest.mark.model


def reciprocal_ranks(scores: np.ndarray) -> np.ndarray:
    """1 / rank of each question's own answer, 0 beyond the tenth; rows are questions."""
    own = np.diag(scores)[:, None]
    ranks = 1 + (scores > own).sum(axis=1)
    return np.where(ranks <= 10, 1 / ranks, 0)


def test_rerank_gains_on_the_chatterbot_pairs(real: Sql) -> None:
    pairs = datasets.chatterbot_pairs()
    assert len(pairs) == 108
    real("CREATE TABLE answers(id INTEGER PRIMARY KEY, body)")
    for n, (_, answer) in enumerate(pairs):
        real("INSERT INTO answers VALUES (?, ?)", n, answer)
    real("SELECT sqlembed_index('answers', 'body')")
    dense = np.zeros((108, 108))
    late = np.zeros((108, 108))
    for n, (question, _) in enumerate(pairs):
        dense[n] = real("SELECT -distance FROM knn('answers', ?, 108) ORDER BY id", question)
        answers = [answer for _, answer in pairs]
        late[n] = real.engine.rerank(question, answers, None)
    assert reciprocal_ranks(dense).mean() == pytest.approx(0.935, abs=0.01)
    gain = reciprocal_ranks(late).mean() - reciprocal_ranks(dense).mean()
    assert gain > 0  # one answer that changes places is 0.005


def test_one_call_gives_what_many_give(real: Sql) -> None:
    documents = ["Dinner is at eight.", "The train leaves at nine.", "You won a prize."]
    together = real.engine.rerank("evening meal", documents, None)
    alone = [real.one("SELECT rerank('evening meal', ?)", document) for document in documents]
    assert alone == pytest.approx(together, abs=1e-4)
    assert max(range(3), key=together.__getitem__) == 0


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that any model was given."""
    texts: list[str] = []

    def noted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Model, given: Sequence[str], role: Role) -> Any:
            texts.extend(given)
            return method(self, given, role)

        return call

    monkeypatch.setattr(Model, "embed", noted(Model.embed))
    monkeypatch.setattr(Model, "tokens", noted(Model.tokens))
    return texts


def forget_scores(directory: Path) -> None:
    cache = apsw.Connection(str(directory / "cache.db"))
    cache.execute("DELETE FROM entry WHERE kind = 'score'")
    cache.close()


def test_after_a_restart_a_search_reads_its_query_only(tmp_path: Path, read: list[str]) -> None:
    search = "SELECT id, rerank FROM search('sms', ?, 30) ORDER BY rank"
    found = []
    for question in ("dinner tonight", "did I win a prize", "did I win a prize"):
        engine = LocalEngine(Cache(str(tmp_path / "cache.db"), 1 << 28))
        sql = Sql(sqlembed.connect(str(tmp_path / "app.db"), engine=engine), engine)
        if not found:
            sql("CREATE TABLE sms(id INTEGER PRIMARY KEY, body)")
            for message in datasets.sms()[:30]:
                sql("INSERT INTO sms(body) VALUES (?)", message)
            sql("SELECT sqlembed_index('sms', 'body')")
            sql(search, "all of them once")
        engine.load(settings.default_model())  # its probes are read here
        read.clear()
        found.append(sql(search, question))
        assert set(read) == {question}
        sql.close()
        engine.close()
        forget_scores(tmp_path)
    assert len(found[0]) == 30 and found[1] == found[2]


def test_from_the_file_a_score_is_what_it_was(tmp_path: Path, read: list[str]) -> None:
    documents = [answer for _, answer in datasets.chatterbot_pairs()][:20]
    documents.append("The spare key lies under the blue flower pot. " * 60)  # several chunks
    scores = []
    for _ in range(2):
        engine = LocalEngine(Cache(str(tmp_path / "cache.db"), 1 << 28))
        engine.load(settings.default_model())
        read.clear()
        scores.append(engine.rerank("where is the key", documents, None))
        engine.close()
        forget_scores(tmp_path)
    assert scores[0] == scores[1]
    assert read == ["where is the key"]


def test_a_byte_a_component_moves_no_score_noticeably(
    real: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact: list[tuple[np.ndarray, np.ndarray]] = []

    def join(parts: list[tuple[np.ndarray, np.ndarray]]) -> Tokens:
        exact.append((np.concatenate([each for each, _ in parts]), parts[0][1]))
        return late.join(parts)

    monkeypatch.setattr(model_module, "join", join)
    messages = datasets.sms()[:60]
    with real.engine.library.use(settings.default_model()) as model:
        asked = model.tokens(messages[:10], "query")
        found = model.tokens(messages[10:], "document")
    moved = []
    for question, (query, pooled) in zip(asked, exact[:10], strict=True):
        for answer, (document, whole) in zip(found, exact[10:], strict=True):
            true = late.LATE_SHARE * (query @ document.T).max(axis=1).mean()
            true += (1 - late.LATE_SHARE) * (pooled @ whole)
            moved.append(abs(late.score(question, answer) - true))
    assert len(moved) == 500
    assert np.mean(moved) < 0.0004 and max(moved) < 0.004


def test_a_long_document_is_ranked_by_all_of_it(real: Sql) -> None:
    filler = "The weather report says nothing of note about the coming days. " * 60
    needle = "The spare key lies under the blue flower pot."
    scores = real.engine.rerank("where is the spare key", [filler, filler + needle], None)
    assert scores[1] > scores[0] + 0.1
