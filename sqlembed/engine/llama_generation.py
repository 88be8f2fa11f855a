"""llama.cpp's part of generating text: a context that reads on, a sampler, a chat template.

Beside ``engine/llama.py`` the one file that imports ``llama_cpp``. Token ids and arrays come and
go; prompts, threads and grammars are others' business.
"""

import ctypes
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jinja2
import llama_cpp
import numpy as np
import numpy.typing as npt
from llama_cpp.llama_chat_format import Jinja2ChatFormatter

from sqlembed.engine import llama
from sqlembed.engine.generation import GenerationOptions, Message
from sqlembed.engine.llama import Weights
from sqlembed.errors import InputError, ModelError

Logits = npt.NDArray[np.float32]

STEP_TOKENS = 64
"""Tokens of a prompt computed at once. Between two such steps an interrupt is seen, and a prefix is
kept in whole steps: so a token is always computed beside the same others, and comes out the same
to the last bit, whether what stands before it was kept or not."""
TEMPLATE = "tokenizer.chat_template"
PIECE_BYTES = 256

CANDIDATE = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])
"""``llama_token_data``."""


class Vocabulary:
    """The tokens of a generator's weights."""

    def __init__(self, weights: Weights) -> None:
        """Look through the vocabulary once."""
        self._vocabulary = vocabulary = weights._vocabulary
        self.size = weights.tokens
        tokens = range(self.size)
        self.ends = [token for token in tokens if llama_cpp.llama_vocab_is_eog(vocabulary, token)]
        """The tokens that end an answer."""
        self.control_tokens = [
            token for token in tokens if llama_cpp.llama_vocab_is_control(vocabulary, token)
        ]
        shown = [self.text_of(token) for token in self.control_tokens]
        self.controls = [text for text in shown if text]
        """What control tokens look like in a text."""

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of *token*, perhaps half a character; a control token's with *special*."""
        room = PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(room)
            size = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, room, 0, special)
            if size >= 0:
                return buffer.raw[:size]
            room = -size

    def tokenize(self, text: str, *, begins: bool, special: bool) -> list[int]:
        """The tokens of *text*.

        :param begins: whether a start token goes in front, where the model has one
        :param special: whether what looks like a control token is one
        """
        data = text.encode("utf-8", "replace")
        room = len(data) + 8
        ids = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(
            self._vocabulary, data, len(data), ids, room, begins, special
        )
        if count < 0:
            raise ModelError(f"llama.cpp cannot tokenize a text of {len(data)} bytes")
        return list(ids[:count])

    def text_of(self, token: int) -> str:
        """What the token looks like in a chat template; empty for none."""
        return "" if token < 0 else self.piece(token, special=True).decode("utf-8", "replace")

    @property
    def start(self) -> str:
        """The start token, as a text."""
        return self.text_of(llama_cpp.llama_vocab_bos(self._vocabulary))

    @property
    def end(self) -> str:
        """The end token, as a text."""
        return self.text_of(llama_cpp.llama_vocab_eos(self._vocabulary))

    @property
    def pointer(self) -> Any:
        """llama.cpp's own."""
        return self._vocabulary

    @property
    def tokenize_address(self) -> int:
        """Where ``llama_tokenize`` is."""
        function = llama_cpp.llama_cpp._lib.llama_tokenize
        return int(ctypes.cast(function, ctypes.c_void_p).value or 0)


class ChatTemplate:
    """The weights' own chat template.

    Rendered by Jinja, as it was written for, and not by ``llama_chat_apply_template``: that knows
    some dozens of templates by a few of their words, and leaves out what else a file's own has,
    such as the system message that a model was trained with.
    """

    def __init__(self, name: str, weights: Weights, vocabulary: Vocabulary) -> None:
        """Take the template of *weights*.

        :raises ModelError: they have none, or one that cannot be read
        """
        self._name = name
        source = weights.metadata(TEMPLATE)
        if not source:
            raise ModelError(
                f"{name}: its weights have no chat template ({TEMPLATE}), so they are of no chat"
                " model; get those that were trained on instructions (often called Instruct)"
            )
        try:
            self._render = Jinja2ChatFormatter(source, vocabulary.end, vocabulary.start)
        except jinja2.TemplateError as error:
            raise ModelError(f"{name}: its chat template cannot be read: {error}") from error

    def __call__(self, system: str | None, messages: Iterable[Message]) -> str:
        """The conversation as the model reads it, up to where it answers.

        :raises InputError: the template refuses it
        """
        turns: list[Any] = [{"role": turn.role, "content": turn.content} for turn in messages]
        if system is not None:
            turns.insert(0, {"role": "system", "content": system})
        try:
            return self._render(messages=turns).prompt
        except (jinja2.TemplateError, ValueError, TypeError) as error:
            raise InputError(f"{self._name}'s chat template refuses this: {error}") from error


class ReadingContext:
    """A context that reads one sequence of tokens on and on; not for two threads at once."""

    def __init__(self, weights: Weights, room: int, threads: int) -> None:
        """Make room for a sequence of *room* tokens.

        :raises ModelError: llama.cpp refuses, most often for want of memory
        """
        if llama_cpp.llama_model_has_encoder(weights._model):
            raise ModelError("a model with an encoder is not one that reads on")
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = room
        parameters.n_batch = parameters.n_ubatch = STEP_TOKENS
        parameters.n_seq_max = 1
        # llama.cpp reserves a float for each word of the vocabulary and output.
        parameters.n_outputs_max = 1
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        parameters.attention_type = llama_cpp.LLAMA_ATTENTION_TYPE_CAUSAL
        llama._said.clear()
        self._context = llama_cpp.llama_init_from_model(weights._model, parameters)
        if not self._context:
            raise ModelError(
                f"llama.cpp cannot make room for {room} tokens: {' / '.join(llama._said)}"
            )
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch = llama_cpp.llama_batch_init(STEP_TOKENS, 0, 1)
        self._words = weights.tokens
        self._room = room
        self._kept: list[int] = []
        """The tokens of the prompt before, whose keys and values are in the context."""
        self._length = 0

    def read(self, prompt: Sequence[int], stopped: Callable[[], bool]) -> tuple[int, Logits | None]:
        """Read *prompt* from the beginning; what is kept of its first steps is not computed again.

        :param stopped: asked before each step
        :returns: how many tokens were kept, and what may come next; None if stopped
        """
        kept = self._keep(prompt)
        logits: Logits | None = None
        for begin in range(kept, len(prompt), STEP_TOKENS):
            if stopped():
                return kept, None
            step = prompt[begin : begin + STEP_TOKENS]
            logits = self._compute(step, last=begin + STEP_TOKENS >= len(prompt))
            self._kept += step
        return kept, logits

    def read_on(self, token: int) -> Logits:
        """Read one more token; what may come after it."""
        logits = self._compute([token], last=True)
        assert logits is not None
        return logits

    def close(self) -> None:
        """Give the memory back."""
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)

    def _keep(self, prompt: Sequence[int]) -> int:
        """Forget all but the whole steps that *prompt* begins with; how many tokens these are."""
        same = 0
        for old, new in zip(self._kept, prompt[:-1], strict=False):
            if old != new:
                break
            same += 1
        same -= same % STEP_TOKENS
        # Where a model keeps a state and not all tokens, no end can be taken away.
        if not same or not llama_cpp.llama_memory_seq_rm(self._memory, 0, same, -1):
            llama_cpp.llama_memory_clear(self._memory, True)
            same = 0
        del self._kept[same:]
        self._length = same
        return same

    def _compute(self, ids: Sequence[int], *, last: bool) -> Logits | None:
        total = len(ids)
        # llama.cpp asserts these, and a failed assertion would kill the host.
        if not 0 < total <= STEP_TOKENS or self._length + total > self._room:
            raise ModelError(
                f"{total} tokens after {self._length} do not fit a context of {self._room}"
            )
        if min(ids) < 0 or max(ids) >= self._words:
            raise ModelError(f"a token id is outside the vocabulary of {self._words}")
        batch = self._batch
        batch.n_tokens = total
        for place, token in enumerate(ids):
            batch.token[place] = token
            batch.pos[place] = self._length + place
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = 0
            batch.logits[place] = last and place == total - 1
        llama._said.clear()
        status = llama_cpp.llama_decode(self._context, batch)
        if status != 0:
            self._kept, self._length = [], 0
            llama_cpp.llama_memory_clear(self._memory, True)
            reason = " / ".join(llama._said)
            raise ModelError(f"llama.cpp failed on {total} tokens: status {status} {reason}")
        self._length += total
        if not last:
            return None
        logits = llama_cpp.llama_get_logits_ith(self._context, -1)
        found: Logits = np.ctypeslib.as_array(logits, (self._words,)).copy()
        if np.isnan(found).any():
            raise ModelError("the model gave NaN for what comes next; its weights are damaged")
        return found


class Sampler:
    """Chooses the next token, with llama.cpp's own samplers."""

    def __init__(self, options: GenerationOptions, seed: int) -> None:
        """Choose as *options* say."""
        self._chain: Any = None
        if options.temperature > 0:
            parameters = llama_cpp.llama_sampler_chain_default_params()
            self._chain = llama_cpp.llama_sampler_chain_init(parameters)
            for sampler in (
                llama_cpp.llama_sampler_init_top_k(options.top_k),
                llama_cpp.llama_sampler_init_top_p(options.top_p, 1),
                llama_cpp.llama_sampler_init_min_p(options.min_p, 1),
                llama_cpp.llama_sampler_init_temp(options.temperature),
                llama_cpp.llama_sampler_init_dist(seed),
            ):
                llama_cpp.llama_sampler_chain_add(self._chain, sampler)

    def choose(self, logits: Logits, allowed: npt.NDArray[np.intp] | None) -> int:
        """The next token, among those *allowed*; at least one is."""
        ids = np.flatnonzero(np.isfinite(logits)) if allowed is None else allowed
        if self._chain is None:
            return int(ids[np.argmax(logits[ids])])
        candidates = np.zeros(len(ids), dtype=CANDIDATE)
        candidates["id"], candidates["logit"] = ids, logits[ids]
        data = ctypes.cast(candidates.ctypes.data, ctypes.POINTER(llama_cpp.llama_token_data))
        array = llama_cpp.llama_token_data_array(data, len(ids), -1, False)
        llama_cpp.llama_sampler_apply(self._chain, ctypes.byref(array))
        if not 0 <= array.selected < array.size:
            raise ModelError("llama.cpp's samplers chose no token")
        return int(array.data[array.selected].id)

    def close(self) -> None:
        """Give the memory back."""
        if self._chain is not None:
            llama_cpp.llama_sampler_free(self._chain)
