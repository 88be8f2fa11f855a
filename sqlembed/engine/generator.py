"""One loaded chat model: prompt, template, tokens, and an answer token by token.

A thread of its own computes for whoever asks, one after another, on one context. So an answer takes
its time without keeping embedders from theirs, and whoever waits can leave at any moment.
"""

import atexit
import codecs
import os
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Condition, Event, Lock, Thread

from sqlembed import settings
from sqlembed.engine import clients
from sqlembed.engine.generation import (
    DEFAULT_MOST_TOKENS,
    Finish,
    Generation,
    GenerationOptions,
    Message,
)
from sqlembed.engine.grammar import Constraint, Grammars
from sqlembed.engine.llama import Weights, refuse_after_fork
from sqlembed.engine.llama_generation import (
    ChatTemplate,
    Logits,
    ReadingContext,
    Sampler,
    Vocabulary,
)
from sqlembed.engine.metrics import GenerationFigures
from sqlembed.errors import ClientGoneError, ModelError, TextTooLongError
from sqlembed.weights.manifest import Manifest

SLICE_SECONDS = 0.05
"""Between two looks whether whoever waits still does."""
MARK = "\ue000{}\ue001"
"""What stands for a control token's text that a prompt has, while the template is rendered."""
MARKED = re.compile("\ue000(\\d+)\ue001")
NO_SEED = 0xFFFFFFFF
"""llama.cpp's number for a seed that it draws itself."""


class Asked:
    """An answer that is waited for."""

    def __init__(self, prompt: str, options: GenerationOptions, until: float) -> None:
        """Ask for an answer to *prompt* before *until*, by the monotonic clock."""
        self.prompt = prompt
        self.options = options
        self.until = until
        self.abandoned = False
        """Whether nobody waits any more."""
        self.done = Event()
        self.generation: Generation | None = None
        self.error: BaseException | None = None


class Generator:
    """A chat model in memory, for many threads at once."""

    def __init__(self, manifest: Manifest, path: Path) -> None:
        """Load the weights at *path*, already verified.

        :raises ModelError: the weights are not what the manifest says, or of no chat model
        """
        self.manifest = manifest
        self._weights = Weights(path)
        try:
            self._check()
            self._vocabulary = Vocabulary(self._weights)
            self._template = ChatTemplate(manifest.name, self._weights, self._vocabulary)
            self._context = ReadingContext(self._weights, manifest.context, settings.threads())
        except BaseException:
            self._weights.close()
            raise
        self._controls = re.compile("|".join(map(re.escape, self._vocabulary.controls)) or "(?!)")
        self._grammars: Grammars | None = None
        self._figures = GenerationFigures(manifest.name)
        self._changed = Condition(Lock())
        self._waiting: deque[Asked] = deque()
        self._closing = False
        self._ending = False
        """Whether the process ends: what runs is cut off."""
        self._process = os.getpid()
        # A daemon: the interpreter would else wait for it before it calls `_at_exit`.
        self._worker = Thread(target=self._work, name=f"sqlembed {manifest.name}", daemon=True)
        self._worker.start()
        atexit.register(self._at_exit)

    def generate(self, prompt: str, options: GenerationOptions, until: float) -> Generation:
        """Answer *prompt*.

        :param until: when time is over, by the monotonic clock
        :raises TextTooLongError: the prompt leaves no room for an answer
        :raises InputError: the grammar or the schema cannot be followed
        :raises ClientGoneError: ``clients.gone`` said that nobody waits for the answer
        """
        refuse_after_fork()
        asked = Asked(prompt, options, until)
        gone = clients.gone.get()
        with self._changed:
            if self._closing:
                raise ModelError(f"{self.manifest.name} is being unloaded; ask again")
            self._waiting.append(asked)
            self._changed.notify()
        try:
            self._wait(asked, gone)
        finally:
            asked.abandoned = True
        if asked.error is not None:
            raise asked.error
        return asked.generation or Generation("", "time", True, 0, 0, 0)

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, without a template around it."""
        return [len(self._tokens(text, begins=False)) for text in texts]

    def waiting(self) -> dict[str, int]:
        """Prompts that wait for an answer."""
        return {"generation": len(self._waiting)}

    def close(self) -> None:
        """Answer who waits, then give the memory back."""
        atexit.unregister(self._at_exit)
        if os.getpid() != self._process:  # forked: the thread stayed in the parent
            return
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._worker.join()
        self._context.close()
        self._weights.close()

    def _wait(self, asked: Asked, gone: Callable[[], bool]) -> None:
        while not asked.done.wait(SLICE_SECONDS):
            if gone():
                raise ClientGoneError("whoever asked for a text left before it was written")
            with self._changed:  # out of time before its turn came
                if time.monotonic() > asked.until and asked in self._waiting:
                    self._waiting.remove(asked)
                    return

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                asked = self._waiting.popleft()
            if asked.abandoned:
                continue
            try:
                asked.generation = self._answer(asked)
            except Exception as error:
                asked.error = error
            asked.done.set()

    def _answer(self, asked: Asked) -> Generation:
        options = asked.options
        prompt = self._prompt(asked.prompt, options)
        room = self.manifest.context - len(prompt)
        if room < 1:
            raise TextTooLongError(
                f"a prompt of {len(asked.prompt)} characters has {len(prompt)} tokens with its chat"
                f" template, and {self.manifest.name} has room for {self.manifest.context}, its"
                " answer's included; give it less"
            )
        constraint = self._constraint(options)
        seed = int.from_bytes(os.urandom(4)) % NO_SEED if options.seed is None else options.seed
        sampler = Sampler(options, seed)
        try:
            begun = time.monotonic()
            kept, logits = self._context.read(prompt, lambda: self._stopped(asked))
            self._figures.prompt.observe(time.monotonic() - begun)
            self._figures.read.inc(len(prompt) - kept)
            self._figures.kept.inc(kept)
            answer = _Answer(self._vocabulary, options.stop)
            finish = self._write(asked, answer, logits, room, sampler, constraint)
            self._figures.written.inc(answer.tokens)
        finally:
            sampler.close()
        bound = options.max_tokens
        own = finish == "time" or (bound is not None and answer.tokens >= bound)
        return Generation(answer.text, finish, own, len(prompt), kept, answer.tokens)

    def _write(
        self,
        asked: Asked,
        answer: "_Answer",
        logits: Logits | None,
        room: int,
        sampler: Sampler,
        constraint: Constraint | None,
    ) -> Finish:
        most = min(asked.options.max_tokens or DEFAULT_MOST_TOKENS, room)
        while not self._stopped(asked) and logits is not None:
            allowed = None if constraint is None else constraint.allowed()
            token = sampler.choose(logits, allowed)
            if token in self._vocabulary.ends:
                return "stop"
            if constraint is not None:
                constraint.take(token)
            if answer.add(token) or (constraint is not None and constraint.complete):
                return "stop"
            if answer.tokens >= most:
                return "length"
            logits = self._context.read_on(token)
        return "time"

    def _stopped(self, asked: Asked) -> bool:
        return asked.abandoned or self._ending or time.monotonic() > asked.until

    def _prompt(self, prompt: str, options: GenerationOptions) -> list[int]:
        """The tokens of the whole conversation; what looks like a control token in it is none."""

        def guard(text: str) -> str:
            return self._controls.sub(lambda found: self._mark(found[0]), text)

        turns = (*options.messages, Message("user", prompt))
        guarded = [Message(turn.role, guard(turn.content)) for turn in turns]
        system = None if options.system is None else guard(options.system)
        rendered = self._template(system, guarded)
        start = self._vocabulary.start
        return self._tokens(rendered, begins=not (start and rendered.startswith(start)))

    def _mark(self, control: str) -> str:
        return MARK.format(self._vocabulary.controls.index(control))

    def _tokens(self, rendered: str, *, begins: bool) -> list[int]:
        # Parts in turn: what the template wrote, and the number of a control token's text.
        ids: list[int] = []
        for place, part in enumerate(MARKED.split(rendered)):
            plain = place % 2 == 1
            text = self._vocabulary.controls[int(part)] if plain else part
            if text:
                ids += self._vocabulary.tokenize(
                    text, begins=begins and place == 0, special=not plain
                )
        return ids

    def _constraint(self, options: GenerationOptions) -> Constraint | None:
        if not options.constrained:
            return None
        if self._grammars is None:
            self._grammars = Grammars(self._vocabulary)
        return self._grammars.constraint(options)

    def _check(self) -> None:
        architecture = self._weights.metadata("general.architecture")
        if architecture != self.manifest.architecture:
            raise ModelError(
                f"{self.manifest.name}: its weights are of architecture {architecture}, its"
                f" manifest says {self.manifest.architecture}"
            )
        if self._weights.positions < self.manifest.context:
            raise ModelError(
                f"{self.manifest.name}: its weights have {self._weights.positions} positions,"
                f" its manifest says it reads {self.manifest.context} tokens"
            )

    def _at_exit(self) -> None:
        # A step that runs has to end, since it would go on while llama.cpp is taken down.
        if os.getpid() == self._process:
            self._ending = True
            with self._changed:
                self._waiting.clear()
            self.close()


class _Answer:
    """The text of an answer as it comes."""

    def __init__(self, vocabulary: Vocabulary, stops: Sequence[str]) -> None:
        self._vocabulary = vocabulary
        self._stops = stops
        # A token may be a part of a character: the rest is waited for, what makes none replaced.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.text = ""
        self.tokens = 0

    def add(self, token: int) -> bool:
        """Append *token*; whether a stop string has come, which is taken off."""
        self.tokens += 1
        before = len(self.text)
        self.text += self._decoder.decode(self._vocabulary.piece(token))
        longest = max(map(len, self._stops), default=0)
        found = [self.text.find(stop, max(0, before - longest)) for stop in self._stops]
        places = [place for place in found if place >= 0]
        if places:
            self.text = self.text[: min(places)]
        return bool(places)
