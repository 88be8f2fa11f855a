"""Which tokens may come next, where an answer has to follow a grammar or a JSON schema.

llguidance, and not llama.cpp's own grammars: in these very many parentheses, or a token that
no rule allows, end the process, and their JSON schemas let line breaks into strings and leave out
what they do not know. llguidance refuses in words. The one file that imports it.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sqlembed.engine.generation import GenerationOptions
from sqlembed.engine.llama_generation import Vocabulary
from sqlembed.errors import InputError

if TYPE_CHECKING:
    from llguidance import LLMatcher
    from llguidance._lib import JsonCompileOptions

CONTROL = b"\xff"
"""What llguidance takes for the mark of a control token."""
STYLE: "JsonCompileOptions" = {
    "lenient": False,
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}
"""Of JSON: with any white space allowed, small models write it without end."""


class Grammars:
    """Grammars over one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Take the tokens of *vocabulary*; half a second for 49,000."""
        # Imported when first used: it takes a tenth of a second.
        from llguidance import LLTokenizer

        tokens = [vocabulary.piece(token, special=True) for token in range(vocabulary.size)]
        for token in vocabulary.control_tokens:
            tokens[token] = CONTROL + tokens[token]
        make: Any = LLTokenizer
        self._tokenizer: LLTokenizer = make.from_llamacpp(
            tokens=tokens,
            vocab_ptr=vocabulary.pointer,
            tokenize_fptr=vocabulary.tokenize_address,
            eos_token=vocabulary.ends,
            slices=None,
        )

    def constraint(self, options: GenerationOptions) -> "Constraint":
        """What the answer has to follow.

        :raises InputError: the grammar or the schema makes no sense, or has what is not known
        """
        from llguidance import LLMatcher

        if options.json_schema is not None:
            what, source = "json_schema", _of_schema(options.json_schema)
        else:
            assert options.grammar is not None
            what, source = "grammar", _of_grammar(options.grammar)
        failed, words = LLMatcher.validate_grammar_with_warnings(source, self._tokenizer)
        if failed:
            raise _refusal(what, "; ".join(words))
        matcher = LLMatcher(self._tokenizer, source, log_level=0)
        return Constraint(what, matcher)


class Constraint:
    """What one answer has to follow, and how far it has come."""

    def __init__(self, what: str, matcher: "LLMatcher") -> None:
        """Begin; *what* is the option's name, for messages."""
        self._what = what
        self._matcher = matcher

    def allowed(self) -> npt.NDArray[np.intp]:
        """The tokens that may come next, at least one.

        :raises InputError: there is none, or the grammar has become too complex
        """
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        found = np.flatnonzero(np.unpackbits(mask, bitorder="little"))
        if not len(found):
            raise _refusal(self._what, "no token of the model can follow")
        return found

    def take(self, token: int) -> None:
        """*token* is what came."""
        self._matcher.consume_token(token)
        self._check()

    @property
    def complete(self) -> bool:
        """Whether nothing more can come."""
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise _refusal(self._what, self._matcher.get_error())


def _of_schema(schema: Mapping[str, Any]) -> str:
    from llguidance import LLMatcher

    try:
        return LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=STYLE)
    except (ValueError, RecursionError) as error:
        raise _refusal("json_schema", str(error)) from error


def _of_grammar(grammar: str) -> str:
    from llguidance import LLMatcher
    from llguidance.gbnf_to_lark import any_to_lark

    try:
        return LLMatcher.grammar_from_lark(any_to_lark(grammar))
    except Exception as error:  # it raises Exception itself
        raise _refusal("grammar", str(error)) from error


def _refusal(what: str, reason: str) -> InputError:
    return InputError(f"option {what} cannot be followed: {reason.strip()}")
