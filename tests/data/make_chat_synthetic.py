"""Writes synthetic conversations for demos and tests; see chat_synthetic/README.md.

    python tests/data/make_chat_synthetic.py [--seed 700] [--output tests/data/chat_synthetic]

The same seed always writes the same bytes.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from synthetic_splits import write_splits

FOLDER = Path(__file__).parent / "chat_synthetic"
TRAIN_ROWS, TEST_ROWS = 520, 10
EXACT_COPIES, NEAR_COPIES, LONG_ROWS = 6, 5, 2

SYSTEM = (
    "You answer for the Lantern Library. Be brief and friendly.",
    "You are the desk of the Lantern Library in Ostermere.",
    "Answer questions of readers of the Lantern Library. If you don't know, look it up.",
)
BRANCHES = {"Harbour": "nine", "Mill Lane": "ten", "Observatory": "noon", "Old Brewery": "eight", "Tramway": "eleven"}
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
LOANS = {"novels": "four weeks", "films": "one week", "maps": "three days", "scores": "six weeks", "games": "ten days"}
ROOMS = {"the reading attic": "two people", "the glass room": "eight people", "the cellar studio": "five people"}
FIRST = ("Alva", "Bruno", "Cleo", "Dario", "Esme", "Falk", "Greta", "Hanno", "Ilka", "Jonte", "Kaia", "Lorin", "Mirel")
LAST = ("Abendroth", "Birkland", "Corvin", "Dunmore", "Ellery", "Fenwick", "Garrow", "Hollis", "Ibsley", "Jarrow")
ADJECTIVES = ("Quiet", "Crooked", "Winter", "Salt", "Paper", "Copper", "Distant", "Green", "Last", "Hidden", "Slow")
NOUNS = ("Orchard", "Ferry", "Atlas", "Kitchen", "Meridian", "Lighthouse", "Garden", "Stairway", "Letter", "Bridge")
REASONS = (
    "My {kin} comes over from {town} for a few days and would like to sit somewhere dry with a good book",
    "I am writing a short talk on the history of {town} and have only until {day} to finish it",
    "The school in {town} has asked my {kin} to bring something worth reading to the class",
    "After {count} years away from {town} I have a reader's card again and hardly know my way around",
    "It has rained since {day} here, and my {kin} and I have read every book in the house",
    "We are {count} friends from {town} who meet each {day} to read aloud to one another",
)
KIN = ("aunt", "brother", "cousin", "daughter", "father", "grandson", "mother", "nephew", "niece", "sister", "uncle")
TOWNS = ("Brackwater", "Cold Ashby", "Dornfeld", "Elmstead", "Fallowmere", "Grimsdale", "Hartlow", "Inverlune")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "nine", "twelve", "fifteen", "twenty")
CLOSING = "Happy reading from the Lantern desk!"

Turn = dict[str, Any]
Row = dict[str, Any]


def make_splits(seed: int) -> dict[str, list[Row]]:
    """Train and test rows. Those of the training split hold a few copies, long rows, and one that can't be used."""
    rng = random.Random(seed)
    train = [make_row(rng) for _ in range(TRAIN_ROWS)]
    test = [{"messages": make_row(rng)["messages"]} for _ in range(TEST_ROWS)]
    return {"train": with_faults(train, rng), "test": test}


def make_row(rng: random.Random) -> Row:
    """A conversation of one to three exchanges, perhaps with a system prompt and a turn that is not to be learned."""
    turns: list[Turn] = []
    for number, exchange in enumerate(rng.sample((_hours, _loan, _room, _shelf), rng.choice((1, 2, 2, 3)))):
        asked = list(exchange(rng))
        if number == 0:
            asked[0]["content"] = f"{_greeting(rng)} {asked[0]['content']}"
        turns += asked
    turns[-1]["content"] += f" {CLOSING}"
    assistants = [turn for turn in turns if turn["role"] == "assistant"]
    if len(assistants) > 1 and rng.random() < 0.1:
        assistants[0]["train"] = False
    if rng.random() < 0.6:
        turns.insert(0, {"role": "system", "content": rng.choice(SYSTEM)})
    # A third say nothing: the job's dataset.provenance says it for them.
    return {"messages": turns, **rng.choice(({"provenance": "Human"}, {"provenance": "Synthetic"}, {}))}


def _greeting(rng: random.Random) -> str:
    reason = rng.choice(REASONS).format(
        kin=rng.choice(KIN), town=rng.choice(TOWNS), day=rng.choice(DAYS), count=rng.choice(NUMBERS)
    )
    return f"Hello, this is {rng.choice(FIRST)} {rng.choice(LAST)}. {reason}."


def _hours(rng: random.Random) -> Iterator[Turn]:
    branch, day = rng.choice(list(BRANCHES)), rng.choice(DAYS)
    question = rng.choice(("When does the {} branch open on {}?", "From when can I come to {} on a {}?"))
    yield {"role": "user", "content": question.format(branch, day)}
    yield {"role": "assistant", "content": f"The {branch} branch opens at {BRANCHES[branch]} on {day}."}


def _loan(rng: random.Random) -> Iterator[Turn]:
    kind = rng.choice(list(LOANS))
    question = rng.choice(("How long may I keep {}?", "For how many days do you lend {}?", "When must {} come back?"))
    yield {"role": "user", "content": question.format(kind)}
    yield {"role": "assistant", "content": f"You may keep {kind} for {LOANS[kind]}."}


def _room(rng: random.Random) -> Iterator[Turn]:
    room, day = rng.choice(list(ROOMS)), rng.choice(DAYS)
    yield {"role": "user", "content": f"Is {room} free on {day}, and for how many is it?"}
    yield {"role": "assistant", "content": f"{room.capitalize()} is free on {day}. It holds {ROOMS[room]}."}


def _shelf(rng: random.Random) -> Iterator[Turn]:
    """An exchange with a look-up, written as text, since many templates of small models print nothing else."""
    title, branch = f"The {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}", rng.choice(list(BRANCHES))
    shelf, copies = f"{rng.choice('ABCDEF')}{rng.randrange(10, 60)}", rng.choice(("one copy", "two copies"))
    yield {"role": "user", "content": f"Do you have {title} at {branch}?"}
    yield {"role": "assistant", "content": f'look_up(title="{title}", branch="{branch}")'}
    yield {"role": "tool", "content": json.dumps({"shelf": shelf, "copies": copies})}
    yield {"role": "assistant", "content": f"Yes: {copies} of {title} on shelf {shelf} at {branch}."}


def with_faults(rows: list[Row], rng: random.Random) -> list[Row]:
    """The rows with copies of some, equal and nearly so, long ones, and one whose last turn nobody answers."""
    talkative = [row for row in rows if _words_of_user(row) >= 50]
    picked = rng.sample(talkative, EXACT_COPIES + NEAR_COPIES)
    faults = [_copy(row, str.upper) for row in picked[:EXACT_COPIES]]
    faults += [_copy(row, lambda text: text.replace("Hello,", "Good day,")) for row in picked[EXACT_COPIES:]]
    faults += [_long(make_row(rng), rng) for _ in range(LONG_ROWS)]
    faults.append({"messages": [{"role": "user", "content": "Hello? Is anybody there?"}]})
    # Behind the rows that they copy, which are the ones that stay.
    return [*rows, *rng.sample(faults, len(faults))]


def _words_of_user(row: Row) -> int:
    return sum(len(turn["content"].split()) for turn in row["messages"] if turn["role"] == "user")


def _copy(row: Row, change: Callable[[str], str]) -> Row:
    """The row with its first question changed: in case, which makes no difference, or in its first words."""
    messages = [dict(turn) for turn in row["messages"]]
    first = next(turn for turn in messages if turn["role"] == "user")
    first["content"] = change(first["content"])
    return {**row, "messages": messages}


def _long(row: Row, rng: random.Random) -> Row:
    titles = [f"The {adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS]
    messages = [dict(turn) for turn in row["messages"]]
    first = next(turn for turn in messages if turn["role"] == "user")
    first["content"] += f" Here is what I have read so far: {', '.join(rng.sample(titles, len(titles)))}."
    return {**row, "messages": messages}


if __name__ == "__main__":
    write_splits("Write the synthetic conversations.", FOLDER, make_splits)
