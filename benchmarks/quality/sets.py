"""The sets: texts to search, and questions of which we know what they should find."""

import random
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from quality import sources

SEED = 11
QUESTIONS = 300
"""Of each set made out of SMS."""
WORDS = range(7, 100)
"""Of a message that is looked for by some of them; the longest are several, run together."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"
EDGES = ".,;:!?()\"'*<>[]-=&"
ASKED = (
    "who sent me {}",
    "what was the message about {}",
    "do you remember {} from the other day",
    "where did {} come up",
)
ENDINGS = (("", ""), ("s", ""), ("es", ""), ("ing", ""), ("ing", "e"), ("ed", ""), ("ed", "e"))


@dataclass(frozen=True)
class Question:
    """What is typed, and which texts are right, by their places."""

    text: str
    right: frozenset[int]


@dataclass(frozen=True)
class Set:
    """Questions over the same texts."""

    name: str
    texts: list[str]
    questions: list[Question]


def all_sets() -> list[Set]:
    """Every set, the same at each call."""
    return [
        answers("support answers", sources.support()),
        answers("other answers", sources.talk()),
        *known_messages(list(sources.messages())),
    ]


def answers(name: str, pairs: sources.Pairs) -> Set:
    """A question should find any of its own answers among those of all."""
    texts = list(dict.fromkeys(answer for each in pairs.values() for answer in each))
    place = {text: n for n, text in enumerate(texts)}
    questions = [
        Question(question, frozenset(place[answer] for answer in each))
        for question, each in pairs.items()
    ]
    return Set(name, texts, questions)


def known_messages(texts: list[str]) -> list[Set]:
    """A message should be found by what somebody remembers of it."""
    chance = random.Random(SEED)
    places = [n for n, text in enumerate(texts) if len(text.split()) in WORDS]
    chance.shuffle(places)
    codes = coded(texts, chance)
    synonyms = sources.synonyms()
    return [
        Set("a third of the words", texts, [
            Question(" ".join(some(texts[n].split(), 1 / 3, chance)), frozenset([n]))
            for n in places[:QUESTIONS]
        ]),
        Set("misspelt words", texts, [
            Question(garbled(some(texts[n].split(), 1 / 2, chance), chance), frozenset([n]))
            for n in places[QUESTIONS : 2 * QUESTIONS]
        ]),
        Set("synonyms", texts, [
            Question(text, frozenset([n]))
            for n, text in reworded(texts, places[2 * QUESTIONS :], synonyms, chance)
        ]),
        Set("a code", texts, codes[:QUESTIONS]),
        Set("a question with a code", texts, [
            Question(ASKED[n % len(ASKED)].format(code.text), code.right)
            for n, code in enumerate(codes[QUESTIONS : 2 * QUESTIONS])
        ]),
    ]  # fmt: skip


def some(words: list[str], share: float, chance: random.Random) -> list[str]:
    """A *share* of *words*, in their order."""
    kept = sorted(chance.sample(range(len(words)), max(2, round(len(words) * share))))
    return [words[n] for n in kept]


def garbled(words: Iterable[str], chance: random.Random) -> str:
    """*words*, each second one with a letter swapped, lost, changed or added."""
    return " ".join(misspelt(word, chance) if chance.random() < 1 / 2 else word for word in words)


def misspelt(word: str, chance: random.Random) -> str:
    """*word* with one mistake; short words stay."""
    if len(word) < 3:
        return word
    n, letter = chance.randrange(len(word) - 1), chance.choice(LETTERS)
    before, here, after, rest = word[:n], word[n], word[n + 1], word[n + 2 :]
    mistakes = (after + here, after, letter + after, letter + here + after)
    return before + chance.choice(mistakes) + rest


def reworded(
    texts: list[str], places: list[int], synonyms: dict[str, str], chance: random.Random
) -> list[tuple[int, str]]:
    """Messages by the synonyms of at least three of their words, and a third of the others."""
    found: list[tuple[int, str]] = []
    for n in places:
        words = [word for each in texts[n].lower().split() if (word := each.strip(EDGES))]
        others = {word: other for word in words if (other := synonym(word, synonyms))}
        if len(others) >= 3:
            kept = [others.get(w, w) for w in words if w in others or chance.random() < 1 / 3]
            found.append((n, " ".join(kept)))
        if len(found) == QUESTIONS:
            break
    return found


def synonym(word: str, synonyms: dict[str, str]) -> str | None:
    """A synonym of *word* or of its stem; None for short words, most of which are grammar."""
    if len(word) < 4 or not word.isalpha():
        return None
    stems = (word.removesuffix(end) + new for end, new in ENDINGS if word.endswith(end))
    return next((synonyms[stem] for stem in stems if stem in synonyms), None)


def coded(texts: list[str], chance: random.Random) -> list[Question]:
    """Pieces with two digits or more that at most three texts have: numbers, prices, codes."""
    holders: dict[str, set[int]] = defaultdict(set)
    for n, text in enumerate(texts):
        for piece in text.split():
            code = piece.strip(EDGES)
            if sum(letter.isdigit() for letter in code) >= 2 and len(code) >= 3:
                holders[code].add(n)
    spoken = [spaced(text) for text in texts]
    codes = [
        Question(code, frozenset(n for n, text in enumerate(spoken) if spaced(code) in text))
        for code, places in sorted(holders.items())
        if len(places) <= 3
    ]
    chance.shuffle(codes)
    return codes


def spaced(text: str) -> str:
    """*text* as words between spaces, the way a full-text index sees it."""
    return " ".join(["", *re.findall(r"[^\W_]+", text.lower()), ""])
