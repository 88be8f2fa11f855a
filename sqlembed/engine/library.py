"""The models of this process: found by name, loaded when used, unloaded when nobody uses them."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Lock
from typing import cast

from sqlembed import settings
from sqlembed.engine import memory
from sqlembed.engine.interface import ModelState
from sqlembed.engine.memory import (
    AnyGenerator,
    AnyModel,
    AnyTwoStage,
    Budget,
    Loaded,
    Resident,
)
from sqlembed.engine.metrics import ModelFigures
from sqlembed.engine.model import Model
from sqlembed.engine.pooling import Vectors
from sqlembed.engine.samples import Samples
from sqlembed.engine.space import Space
from sqlembed.errors import InputError, ModelMissingError
from sqlembed.weights import manifest, receipt
from sqlembed.weights.manifest import STATIC, Manifest

UNPROVEN = "unproven on real weights"
"""What is said of a model without probes: whether it is right, no load finds out."""
ROOM_SECONDS = 30
"""How long a model that does not fit waits for others to become idle."""


class Library:
    """Models by their exact names; every method is safe from any thread."""

    def __init__(
        self,
        default: str,
        *,
        budget: Budget | None = None,
        room_seconds: float = ROOM_SECONDS,
        unloaded: Callable[[str], None] = lambda name: None,
    ) -> None:
        """Start with nothing loaded.

        :param default: the model that is meant where none is named
        :param budget: the memory that models may take; half of the machine's, if not given
        :param room_seconds: how long to wait for room among models in use
        :param unloaded: told the name of each model whose memory was given back
        """
        self.default = default
        self._budget = budget or Budget(None)
        self._room_seconds = room_seconds
        self._unloaded = unloaded
        self._manifests: dict[str, Manifest] = {}
        self._spaces: dict[str, Space] = {}
        self._models: dict[str, Loaded] = {}
        self._leaving: list[Loaded] = []
        """Unloaded, but still in memory."""
        self._abandoned: list[Loaded] = []
        self._changed = Condition()
        self._loading = Lock()
        self._reaching: dict[str, Lock] = {}
        self._chosen_reranker: tuple[int, str] | None = None
        self.samples = Samples()

    def manifest(self, name: str) -> Manifest:
        """The manifest of *name*, which may be ``NAME:WIDTH``.

        :raises NotFoundError: no model is called so
        :raises OptionError: it has no vectors of that width
        """
        known = self._manifests.get(name)
        if known is None:
            known = self._manifests[name] = manifest.find(name)
        return known

    def space(self, name: str) -> Space:
        """The embedding space of *name*; needs its receipt, not its weights, nor its server."""
        known = self._spaces.get(name)
        if known is None:
            found = self.manifest(name)
            known = self._spaces[name] = (
                Space.at_server(found, found.server)
                if found.server
                else Space.of(found, receipt.recorded(found.base))
            )
        return known

    @contextmanager
    def use(self, name: str) -> Iterator[AnyModel]:
        """The model *name*, if it reads; loaded, and kept so until the block ends.

        :raises InputError: it is a generator
        :raises ModelError: its weights cannot be used; the message says why
        :raises BusyError: there is no room for it beside the models in use
        """
        found = self.manifest(name)
        if found.kind == "generator":
            raise InputError(
                f"{name} is a generator: it writes texts, and gives neither vectors nor scores;"
                f" use {self.default}, or generate()"
            )
        with self.hold(name) as model:
            if found.corpus is not None:
                model = cast(AnyTwoStage, model).after(found, self.samples.get(found.name))
            yield cast(AnyModel, model)

    def sample(self, name: str, texts: Sequence[str]) -> tuple[str, Vectors]:
        """Have the model *name*, which reads a sample, read *texts* as one.

        :returns: the name of the model after that sample, and what it made of it
        """
        with self.hold(name) as model:
            made = cast(AnyTwoStage, model).sample(texts)
        return self.samples.add(model.manifest, made), made

    @contextmanager
    def generator(self, name: str | None) -> Iterator[AnyGenerator]:
        """The model *name*, if it writes; where none is named, the one in use.

        :raises InputError: it is of another kind
        :raises ModelMissingError: none is named, and none is installed
        """
        chosen = name or self.writer()
        if chosen is None:
            raise ModelMissingError(
                "no model that writes is on this machine; get one with:"
                f" sqlembed pull {settings.SUGGESTED_GENERATOR}"
            )
        kind = self.manifest(chosen).kind
        if kind != "generator":
            raise InputError(
                f"{chosen} is {'an embedder' if kind == 'embedder' else 'a reranker'}, and writes"
                " no texts; sqlembed_models shows which are generators"
            )
        with self.hold(chosen) as model:
            yield cast(AnyGenerator, model)

    @contextmanager
    def hold(self, name: str) -> Iterator[Resident]:
        """The model *name*, of any kind, loaded, and kept so until the block ends.

        Of a width it is the whole model.

        :raises ModelError: its weights cannot be used; the message says why
        :raises BusyError: there is no room for it beside the models in use
        """
        name = self.manifest(name).base
        found = self._borrow(name)
        while found is None:
            self._load(name)
            found = self._borrow(name)
        try:
            yield found.model
        finally:
            with self._changed:
                found.users -= 1
                found.used = time.monotonic()
                self._changed.notify_all()

    @contextmanager
    def embedder(self, name: str) -> Iterator[AnyModel]:
        """The model *name*, if it gives vectors.

        :raises InputError: it is a reranker or a generator
        """
        kind = self.manifest(name).kind
        if kind == "reranker":
            raise InputError(
                f"{name} is a {kind}: it scores pairs and gives no vectors;"
                f" embed with {self.default}"
            )
        with self.use(name) as model:
            yield model

    def unload(self, name: str) -> bool:
        """Give the memory of *name* back once nobody uses it; False if it was not loaded."""
        name = self.manifest(name).base
        with self._changed:
            found = self._models.pop(name, None)
            if found is None:
                return False
            self._leaving.append(found)
            self._changed.wait_for(lambda: not found.users)
        self._close(found)
        return True

    def expire(self, seconds: float) -> list[str]:
        """Unload the models that nobody used for *seconds*; their names."""
        latest = time.monotonic() - seconds
        with self._changed:
            idle = [each for each in self._models.values() if each.used <= latest]
            expired = self._take_out(idle)
        for each in expired:
            self._close(each)
        return [each.name for each in expired]

    def loaded(self) -> list[str]:
        """The names of the models in memory."""
        return list(self._models)

    def memory(self) -> dict[str, int]:
        """The bytes that each model in memory takes."""
        return {found.name: found.bytes for found in list(self._models.values())}

    def queues(self) -> dict[tuple[str, str], int]:
        """Texts that wait by model and lane."""
        return {
            (found.name, lane): texts
            for found in list(self._models.values())
            for lane, texts in found.model.waiting().items()
        }

    def reranker(self) -> str:
        """What reranks where no model is named.

        An installed cross-encoder that is recommended, else the default embedder.
        """
        directory = receipt.directory()
        changed = directory.stat().st_mtime_ns if directory.is_dir() else 0
        if self._chosen_reranker is None or self._chosen_reranker[0] != changed:
            self._chosen_reranker = (changed, self._choose_reranker())
        return self._chosen_reranker[1]

    def fitting(self, tokens: int) -> str:
        """The installed embedder whose manifest's ``tokens`` hold *tokens*.

        The default if it is one, else the one with the narrowest range; the default if there is
        none.
        """
        default = self.manifest(self.default).name
        fit = {
            name: each.tokens[1] - each.tokens[0]
            for name, each in manifest.available().items()
            if each.kind == "embedder" and each.tokens is not None
            and each.tokens[0] <= tokens <= each.tokens[1]
            and receipt.is_usable(each)
        }  # fmt: skip
        return default if default in fit or not fit else min(fit, key=lambda name: fit[name])

    def writer(self) -> str | None:
        """What generates where no model is named, if there is one.

        The generator that a setting names, else the first that is installed and recommended.
        """
        chosen = settings.default_generator()
        if chosen is not None:
            return chosen
        for name, each in manifest.available().items():
            if each.kind == "generator" and each.recommended and receipt.is_usable(each):
                return name
        return None

    def states(self) -> list[ModelState]:
        """Every model that has a manifest here."""
        loaded = self.memory()
        chosen = {"embed": self.default, "rerank": self.reranker(), "generate": self.writer()}
        uses = {use: self.manifest(name).base for use, name in chosen.items() if name}
        return [
            ModelState(
                name=name,
                kind=each.kind,
                dimension=each.dimension,
                context=each.context,
                installed=receipt.is_usable(each),
                loaded=name in loaded,
                bytes=loaded.get(name),
                used_for=" and ".join(use for use, chosen in uses.items() if chosen == name)
                or None,
                widths=json.dumps(each.widths) if len(each.widths) > 1 else None,
                proof=f"{len(each.probes)} probes" if each.probes else UNPROVEN,
                licence=each.licence,
                summary=each.summary,
            )
            for name, each in manifest.available().items()
        ]

    def after_fork(self) -> None:
        """In a child, let go of models and locks that threads of the parent may have held."""
        self._abandoned += self._models.values()
        self._models, self._leaving = {}, []
        self._changed = Condition()
        self._loading = Lock()
        self._reaching = {}

    def _borrow(self, name: str) -> Loaded | None:
        with self._changed:
            found = self._models.get(name)
            if found is not None:
                found.users += 1
            return found

    def _load(self, name: str) -> None:
        if self.manifest(name).server:
            self._reach(name)
            return
        until = time.monotonic() + self._room_seconds
        while True:
            with self._loading:
                if name in self._models:
                    return
                found = self.manifest(name)
                path, sha256 = receipt.verified(name)
                size = memory.needed(found, path)
                self._budget.check(name, size)
                if self._make_room(size):
                    self._spaces[name] = Space.of(found, sha256)
                    begun = time.perf_counter()
                    model = of_kind(found)(found, path)
                    ModelFigures(name).load.observe(time.perf_counter() - begun)
                    self._models[name] = Loaded(name, model, size, time.monotonic())
                    return
            # Not under the lock: what fits may be loaded meanwhile.
            self._await_room(name, size, until)

    def _reach(self, name: str) -> None:
        # Not under the lock for weights: a server may not answer for long.
        with self._reaching.setdefault(name, Lock()):
            if name not in self._models:
                begun = time.perf_counter()
                model = _at_server(self.manifest(name))
                ModelFigures(name).load.observe(time.perf_counter() - begun)
                self._models[name] = Loaded(name, model, 0, time.monotonic())

    def _make_room(self, size: int) -> bool:
        """Unload what is idle until *size* bytes fit; False if too much is in use."""
        with self._changed:
            if not self._budget.could_hold(size, self._in_memory()):
                return False
            victims = self._take_out(self._budget.victims(size, self._models.values()))
        for each in victims:
            self._close(each)
        return True

    def _await_room(self, name: str, size: int, until: float) -> None:
        def fits() -> bool:
            return self._budget.could_hold(size, self._in_memory())

        with self._changed:
            if not self._changed.wait_for(fits, until - time.monotonic()):
                raise self._budget.refusal(name, size, self._in_memory(), self._room_seconds)

    def _in_memory(self) -> list[Loaded]:
        return [*self._models.values(), *self._leaving]

    def _take_out(self, chosen: list[Loaded]) -> list[Loaded]:
        """Let nobody borrow those of *chosen* that are idle; these."""
        idle = [each for each in chosen if not each.users]
        for each in idle:
            del self._models[each.name]
        self._leaving += idle
        return idle

    def _close(self, found: Loaded) -> None:
        found.model.close()
        with self._changed:
            self._leaving.remove(found)
            self._changed.notify_all()
        # What is installed may change now: read it anew when it is needed next.
        for name, known in list(self._manifests.items()):
            if known.base == found.name:
                self._manifests.pop(name, None)
                self._spaces.pop(name, None)
        self._unloaded(found.name)

    def _choose_reranker(self) -> str:
        for name, each in manifest.available().items():
            if each.kind == "reranker" and each.recommended and receipt.is_usable(each):
                return name
        return self.default


def of_kind(found: Manifest) -> Callable[[Manifest, Path], Resident]:
    """What loads a model on this machine."""
    # All but Model are imported when first used: most processes have none of them.
    if found.architecture == STATIC:
        from sqlembed.engine.static import StaticModel

        return StaticModel
    if found.corpus is not None:
        from sqlembed.engine.two_stage import TwoStage

        return TwoStage
    if found.kind == "generator":
        from sqlembed.engine.generator import Generator

        return Generator
    return Model


def _at_server(found: Manifest) -> AnyModel:
    # Imported when first used: the HTTP library takes 0.15 seconds.
    from sqlembed.engine.remote import ServerModel

    return ServerModel(found)
