"""The models of this process: found by name, loaded when used, unloaded when nobody uses them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Lock

from sqlembed.engine.interface import ModelState
from sqlembed.engine.model import Model
from sqlembed.engine.space import Space
from sqlembed.errors import InputError
from sqlembed.weights import manifest, receipt
from sqlembed.weights.manifest import Manifest


class Library:
    """Models by their exact names; every method is safe from any thread."""

    def __init__(self, default: str) -> None:
        """Start with nothing loaded; *default* is meant where no model is named."""
        self.default = default
        self._manifests: dict[str, Manifest] = {}
        self._spaces: dict[str, Space] = {}
        self._models: dict[str, Model] = {}
        self._abandoned: dict[str, Model] = {}
        self._users: Counter[Model] = Counter()
        self._changed = Condition()
        self._loading = Lock()
        self._chosen_reranker: tuple[int, str] | None = None

    def manifest(self, name: str) -> Manifest:
        """The manifest of *name*.

        :raises NotFoundError: no model is called so
        """
        known = self._manifests.get(name)
        if known is None:
            known = self._manifests[name] = manifest.find(name)
        return known

    def space(self, name: str) -> Space:
        """The embedding space of *name*; needs its receipt, not its weights."""
        known = self._spaces.get(name)
        if known is None:
            known = self._spaces[name] = Space.of(self.manifest(name), receipt.recorded(name))
        return known

    @contextmanager
    def use(self, name: str) -> Iterator[Model]:
        """The model *name*, loaded, and kept so until the block ends.

        :raises ModelError: its weights cannot be used; the message says why
        """
        model = self._borrow(name)
        while model is None:
            self._load(name)
            model = self._borrow(name)
        try:
            yield model
        finally:
            with self._changed:
                self._users[model] -= 1
                self._changed.notify_all()

    @contextmanager
    def embedder(self, name: str) -> Iterator[Model]:
        """The model *name*, if it gives vectors.

        :raises InputError: it is a reranker
        """
        kind = self.manifest(name).kind
        if kind != "embedder":
            raise InputError(
                f"{name} is a {kind}: it scores pairs and gives no vectors;"
                f" embed with {self.default}"
            )
        with self.use(name) as model:
            yield model

    def unload(self, name: str) -> bool:
        """Give the memory of *name* back once nobody uses it; False if it was not loaded."""
        self.manifest(name)
        with self._changed:
            model = self._models.pop(name, None)
            if model is None:
                return False
            self._changed.wait_for(lambda: self._users[model] == 0)
            del self._users[model]
        model.close()
        # What is installed may change now: read it anew when it is needed next.
        self._manifests.pop(name, None)
        self._spaces.pop(name, None)
        return True

    def loaded(self) -> list[str]:
        """The names of the models in memory."""
        return list(self._models)

    def reranker(self) -> str:
        """What reranks where no model is named.

        An installed cross-encoder that is recommended, else the default embedder.
        """
        directory = receipt.directory()
        changed = directory.stat().st_mtime_ns if directory.is_dir() else 0
        if self._chosen_reranker is None or self._chosen_reranker[0] != changed:
            self._chosen_reranker = (changed, self._choose_reranker())
        return self._chosen_reranker[1]

    def states(self) -> list[ModelState]:
        """Every model that has a manifest here."""
        uses = {"embed": self.default, "rerank": self.reranker()}
        return [
            ModelState(
                name=name,
                kind=each.kind,
                dimension=each.dimension,
                context=each.context,
                installed=receipt.gguf_path(name).is_file(),
                loaded=name in self._models,
                used_for=" and ".join(use for use, chosen in uses.items() if chosen == name)
                or None,
                licence=each.licence,
                summary=each.summary,
            )
            for name, each in manifest.available().items()
        ]

    def after_fork(self) -> None:
        """In a child, let go of models and locks that threads of the parent may have held."""
        self._abandoned, self._models = self._models, {}
        self._users = Counter()
        self._changed = Condition()
        self._loading = Lock()

    def _borrow(self, name: str) -> Model | None:
        with self._changed:
            model = self._models.get(name)
            if model is not None:
                self._users[model] += 1
            return model

    def _load(self, name: str) -> None:
        with self._loading:
            if name not in self._models:
                found = self.manifest(name)
                path, sha256 = receipt.verified(name)
                self._spaces[name] = Space.of(found, sha256)
                self._models[name] = Model(found, path)

    def _choose_reranker(self) -> str:
        for name, each in manifest.available().items():
            if each.kind == "reranker" and each.recommended and receipt.gguf_path(name).is_file():
                return name
        return self.default
