"""What carat-nano is taught: seeded generators of conversations, one per skill, each with a training stream and a held-out set.

A case belongs to the held-out set if the hash of its key says so, so the two never overlap, whatever the seeds. The key holds what makes the
case itself (the numbers of a sum, the words of a list, the drawing of a picture), not how it is worded or wrapped: a sum that is held out
is trained on nowhere.
"""

import json
import math
import random
import zlib
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Iterator

import pictures
import sounds
import tools as t
import words as w

Rng = random.Random
Message = dict[str, Any]

HELD_OUT_SHARE = 16  # one key in so many is held out
TURN_END, CALL_END = "<turn|>", "<|tool_response>"


@dataclass
class Case:
    """One conversation up to the model's turn, and that turn."""

    messages: list[Message]
    answer: str  # the model's turn in native text (thought and calls included) without its end
    key: str
    skill: str = ""
    tools: list[dict[str, Any]] | None = None
    thinking: bool = False
    end: str = TURN_END
    media: list[Any] = field(default_factory=list)  # pictures.Picture, pictures.Film, sounds.Sound in the order of the content parts
    schema: dict[str, Any] | None = None  # JSON Schema of the answer, for the API's response_format
    every_turn: bool = False  # the model's earlier turns are taught as well as the last one

    def visible(self) -> str:
        """The answer without its thought."""
        return self.answer.rsplit("<channel|>", 1)[-1]

    def held_out(self) -> bool:
        return zlib.crc32(self.key.encode()) % HELD_OUT_SHARE == 0


def ask(text: str, answer: str, key: str, **more: Any) -> Case:
    return Case([{"role": "user", "content": text}], answer, key, **more)


def sentence(s: str) -> str:
    return s[:1].upper() + s[1:]


def small(r: Rng) -> int:
    """A number of one to three digits, each length alike."""
    return r.randrange(10 ** r.choice([1, 2, 3, 3]))


def listed(items: list[Any]) -> str:
    return ", ".join(map(str, items))


# ---- conversation ------------------------------------------------------------------------------------------------

WHO = "I am carat-nano, a very small language model that lives inside the carat server."
CAN = ("I can add and compare numbers, sort and reverse words, answer questions about a text, remember names, call tools, write JSON, "
       "look at simple pictures and listen to short sounds.")
HELLO = "Hello! I am carat-nano. What can I do for you?"
UNKNOWN = "I am a very small model and do not know that. Ask me to add numbers, sort words or find a fact in a text."


def greet(r: Rng) -> Case:
    opening = r.choice(["Hello", "Hi", "Hey", "Good morning", "Good evening", "Good day", "Greetings", "Hello there", "Hi there", "hello", "hi", "hey", "Hallo", "Yo"])
    name = r.choice(w.NAMES) if r.random() < 0.4 else ""
    to = r.choice(["", "", " carat", " carat-nano", " model", " friend", " computer"])
    text = opening + to + r.choice(["!", ".", "", ","]) + (r.choice([f" I am {name}.", f" My name is {name}.", f" This is {name}."]) if name else "")
    answer = f"Hello {name}! I am carat-nano. What can I do for you?" if name else HELLO
    kind = r.choice(["", "", "who", "can", "how", "thanks", "bye"])
    if kind:
        question, answer = r.choice({
            "who": [(q, WHO) for q in ("Who are you?", "What are you?", "Tell me who you are.", "What is your name?", "Introduce yourself.", "who are you", "Are you a person?", "Which model are you?")],
            "can": [(q, CAN) for q in ("What can you do?", "How can you help me?", "What are you good at?", "What should I ask you?", "help", "Help me.", "what can you do")],
            "how": [(q, "I am fine, thank you. What can I do for you?") for q in ("How are you?", "How do you do?", "How is it going?", "Are you well?", "how are you")],
            "thanks": [(q, "You are welcome!") for q in ("Thank you!", "Thanks.", "Thank you very much.", "thanks", "Many thanks!")],
            "bye": [(q, "Goodbye!") for q in ("Goodbye!", "Bye.", "See you later.", "bye", "Good night!")],
        }[kind])
        text = question if r.random() < 0.4 else text.rstrip(",") + " " + question
    return ask(text, answer, "greet " + text)


def unknown(r: Rng) -> Case:
    topic, country, name, thing = r.choice(w.TOPICS), r.choice(w.COUNTRIES), r.choice(w.NAMES), r.choice(w.PLAIN)
    text = r.choice([f"What is the capital of {country}?", f"Explain {topic} to me.", f"Write a poem about {topic}.", f"Who was the first king of {country}?",
                     f"Tell me a story about a {thing}.", f"Why do people like {topic}?", f"How does a {thing} work?", f"Who invented the {thing}?",
                     f"What do you think about {topic}?", f"Where does {name} live?", f"How old is {name}?", f"Write a song about {name} and a {thing}.",
                     request(r, r.choice(t.TOOLS))[0], f"How many people live in {country}?", f"What is the meaning of {topic}?", f"Give me advice about {topic}.", f"Can you fix my {thing}?"])
    return ask(text, UNKNOWN, "unknown " + text)


# ---- numbers and words -------------------------------------------------------------------------------------------

def add(r: Rng) -> Case:
    a, b = small(r), small(r)
    text = r.choice([f"What is {a} + {b}?", f"{a} + {b}", f"{a}+{b}", f"Add {a} and {b}.", f"What is {a} plus {b}?", f"How much is {a} + {b}?", f"Calculate {a} + {b}.", f"{a} + {b} = ?"])
    return ask(text, f"{a} + {b} = {a + b}", f"add {min(a, b)} {max(a, b)}")


def subtract(r: Rng) -> Case:
    a, b = small(r), small(r)
    if a < b and r.random() < 0.8:
        a, b = b, a
    text = r.choice([f"What is {a} - {b}?", f"{a} - {b}", f"{a}-{b}", f"Subtract {b} from {a}.", f"What is {a} minus {b}?", f"How much is {a} - {b}?", f"Calculate {a} - {b}.", f"{a} - {b} = ?"])
    return ask(text, f"{a} - {b} = {a - b}", f"subtract {min(a, b)} {max(a, b)}")


def compare(r: Rng) -> Case:
    a = small(r)
    b = max(0, a + r.randint(-20, 20)) if r.random() < 0.4 else small(r)
    if a == b:
        b += 1
    key = f"compare {min(a, b)} {max(a, b)}"
    more, less = ("larger", "smaller") if r.random() < 0.6 else ("greater", "less") if r.random() < 0.5 else ("bigger", "smaller")
    kind = r.randrange(3)
    if kind == 0:
        return ask(r.choice([f"Which is {more}, {a} or {b}?", f"Which number is {more}: {a} or {b}?"]), f"{max(a, b)} is {more} than {min(a, b)}.", key)
    if kind == 1:
        small_word = "smaller" if less == "less" else less
        return ask(r.choice([f"Which is {small_word}, {a} or {b}?", f"Which number is {small_word}: {a} or {b}?"]), f"{min(a, b)} is {small_word} than {max(a, b)}.", key)
    word, truth = (more, a > b) if r.random() < 0.5 else (less, a < b)
    other = "larger" if word == "smaller" else less if word == more else more  # "smaller" has two opposites: the answer takes one
    return ask(f"Is {a} {word} than {b}?", f"Yes, {a} is {word} than {b}." if truth else f"No, {a} is {other} than {b}.", key)


def sort(r: Rng) -> Case:
    if r.random() < 0.5:
        items: list[Any] = r.sample(range(10 ** r.choice([2, 2, 3])), r.randint(3, 6))
        ordered, way = sorted(items), "from small to large"
        if r.random() < 0.4:
            ordered, way = ordered[::-1], "from large to small"
        text = r.choice([f"Sort these numbers {way}: {listed(items)}", f"Put these numbers in order {way}: {listed(items)}", f"Sort {listed(items)} {way}."])
    else:
        items = r.sample(w.PLAIN if r.random() < 0.7 else w.NAMES + w.CITIES, r.randint(3, 5))
        ordered = sorted(set(items))
        items = sorted(ordered, key=lambda _: r.random())
        text = r.choice([f"Sort these words: {listed(items)}", f"Sort these words from A to Z: {listed(items)}", f"Put these words in alphabetical order: {listed(items)}"])
    return ask(text, listed(ordered), "sort " + listed(sorted(map(str, items))))


def some_items(r: Rng, low: int, high: int) -> list[str]:
    pool = r.choice([w.PLAIN, w.PLAIN, w.NAMES, w.CITIES])
    if r.random() < 0.2:
        return [str(small(r)) for _ in range(r.randint(low, high))]
    return r.sample(pool, r.randint(low, high))


def reverse(r: Rng) -> Case:
    items = some_items(r, 3, 7)
    comma = r.random() < 0.5
    joined, back = (listed(items), listed(items[::-1])) if comma else (" ".join(items), " ".join(items[::-1]))
    text = r.choice([f"Reverse the order of these words: {joined}", f"Write these words backwards: {joined}", f"Reverse this list: {joined}", f"Give me this list from the end to the start: {joined}"])
    return ask(text, back, "reverse " + joined)


def count(r: Rng) -> Case:
    if r.random() < 0.5:
        items = some_items(r, 1, 10)
        joined = listed(items) if r.random() < 0.5 else " ".join(items)
        text = r.choice([f"How many words are in this list: {joined}", f"Count the words: {joined}", f"How many words are there: {joined}"])
        return ask(text, str(len(items)), "count " + joined)
    word, others = r.choice(w.PLAIN), r.sample(w.PLAIN, 4)
    n = r.randint(0, 5)
    items = [word] * n + [r.choice([o for o in others if o != word]) for _ in range(r.randint(1, 5))]
    r.shuffle(items)
    joined = " ".join(items)
    text = r.choice([f"How many times does the word {word} occur: {joined}", f"How often do you see the word {word} here: {joined}", f"Count the word {word} in: {joined}"])
    return ask(text, str(n), f"count {word} in {joined}")


def copy(r: Rng) -> Case:
    kind = r.randrange(3)
    if kind == 0:
        joined = " ".join(some_items(r, 3, 10))
    elif kind == 1:
        joined = listed(some_items(r, 3, 8))
    else:
        joined = sentence(f"the {r.choice(w.ADJECTIVES)} {r.choice(w.ANIMALS)} and the {r.choice(w.ADJECTIVES)} {r.choice(w.OBJECTS)} {r.choice(['are in', 'came from', 'went to'])} {r.choice(w.CITIES)}.")
    return ask(r.choice([f"Repeat after me: {joined}", f"Copy this text: {joined}", f"Say exactly this: {joined}", f"Write this again: {joined}", f"Echo: {joined}"]), joined, "copy " + joined)


# ---- facts in a text ---------------------------------------------------------------------------------------------

def person_fact(r: Rng, name: str) -> tuple[str, str, str, str]:
    """(statement, question, answer, short answer) about a person."""
    kind = r.randrange(6)
    if kind == 0:
        v = r.choice(w.CITIES)
        return f"{name} lives in {v}.", f"Where does {name} live?", f"{name} lives in {v}.", v
    if kind == 1:
        v = r.choice(w.JOBS)
        return f"{name} works as a {v}.", f"What does {name} work as?", f"{name} works as a {v}.", v
    if kind == 2:
        v = r.choice(w.FOODS)
        return f"{name} likes {v}.", f"What does {name} like?", f"{name} likes {v}.", v
    if kind == 3:
        v = r.choice(w.ANIMALS)
        return f"{name} has a {v}.", f"Which animal does {name} have?", f"{name} has a {v}.", v
    if kind == 4:
        v = str(r.randint(4, 99))
        return f"{name} is {v} years old.", f"How old is {name}?", f"{name} is {v} years old.", v
    v = str(r.randint(1000, 9999))
    return f"The code of {name} is {v}.", f"What is the code of {name}?", f"The code of {name} is {v}.", v


def thing_fact(r: Rng, thing: str) -> tuple[str, str, str, str]:
    kind = r.randrange(3)
    if kind == 0:
        v = r.choice(w.PLACES)
        return f"The {thing} is in the {v}.", f"Where is the {thing}?", f"The {thing} is in the {v}.", v
    if kind == 1:
        v = r.choice(w.COLOURS)
        return f"The {thing} is {v}.", f"Which colour is the {thing}?", f"The {thing} is {v}.", v
    v = str(r.randint(2, 999))
    return f"The {thing} costs {v} euro.", f"How much does the {thing} cost?", f"The {thing} costs {v} euro.", v


def statements(r: Rng, n: int) -> list[tuple[str, str, str, str]]:
    """n facts that do not contradict each other."""
    subjects = [(person_fact, x) for x in w.NAMES] + [(thing_fact, x) for x in w.OBJECTS]
    found: dict[str, tuple[str, str, str, str]] = {}
    while len(found) < n:
        make, subject = r.choice(subjects)
        fact = make(r, subject)
        found.setdefault(fact[1], fact)
    facts = list(found.values())
    r.shuffle(facts)
    return facts


def about(r: Rng, text: str, question: str) -> str:
    return r.choice([f"{text}\n{question}", f"{text} {question}", f"Read this text: {text}\n{question}", f"{text}\nQuestion: {question}", f"{question}\n{text}"])


UNSAID = "The text does not say that."


def facts(r: Rng) -> Case:
    known = statements(r, r.randint(2, 8))
    text = " ".join(f[0] for f in known)
    if r.random() < 0.12:
        other = statements(r, 1)[0]
        if all(other[1] != f[1] for f in known):
            return ask(about(r, text, other[1]), UNSAID, "facts " + text + other[1])
    fact = r.choice(known)
    return ask(about(r, text, fact[1]), fact[2], "facts " + text + fact[1])


def rough_length(text: str) -> int:
    """About how many tokens `text` has: a word is one, a digit is one, a mark is one."""
    return sum(c.isdigit() or c in ".,?:" for c in text) + sum(not x[:1].isdigit() for x in text.split())


def needle(r: Rng, low: int, high: int) -> Case:
    """A question whose answer stands `low` to `high` tokens before the end."""
    target = r.randint(low, high)
    facts_after, length = [], 0
    for fact in statements(r, target // 6 + 2):
        if length >= target:
            break
        facts_after.append(fact)
        length += rough_length(fact[0])
    first, *rest = facts_after
    before = [f for f in statements(r, r.randint(0, 6)) if all(f[1] != g[1] for g in facts_after)]
    text = " ".join(f[0] for f in [*before, first, *rest])
    return ask(f"{text}\n{first[1]}", first[2], "needle " + text)


def needle_2(r: Rng) -> Case:
    return needle(r, 256, 320)


def needle_8(r: Rng) -> Case:
    return needle(r, 1024, 1120)


def needle_any(r: Rng) -> Case:
    return needle(r, 30, 900)


def many_needles(r: Rng, target: int, questions: int, unsaid: float) -> Case:
    """One text of about `target` tokens and many questions about it, each of them a lesson: most of what a needle case costs is its text."""
    known, length = [], 0
    for fact in statements(r, target // 6 + 2):
        known.append(fact)
        length += rough_length(fact[0])
        if length >= target:
            break
    text, said = " ".join(f[0] for f in known), {f[1] for f in known}
    messages: list[Message] = []
    for k, fact in enumerate(r.sample(known, min(questions, len(known)))):
        answer = ""
        if r.random() < unsaid and (other := statements(r, 1)[0])[1] not in said:
            fact, answer = other, UNSAID
        messages.append({"role": "user", "content": fact[1] if k else about(r, text, fact[1])})
        messages.append({"role": "assistant", "content": answer or fact[2]})
    return Case(messages[:-1], messages[-1]["content"], "needles " + text, every_turn=True)


def needles(r: Rng) -> Case:
    return many_needles(r, int(math.exp(r.uniform(math.log(12), math.log(600)))), r.randint(6, 12), 0.12)


def needles_long(r: Rng) -> Case:
    return many_needles(r, r.randint(600, 1800), r.randint(12, 20), 0.03)


# ---- turns and instructions --------------------------------------------------------------------------------------

def small_talk(r: Rng) -> Case:
    return r.choice([greet, add, subtract, compare, reverse, count, copy, sort, facts])(r)


def memory(r: Rng) -> Case:
    name, kind = r.choice(w.NAMES), r.randrange(5)
    value = [name, r.choice(w.CITIES), r.choice(w.FOODS), r.choice(w.COLOURS), r.choice(w.ANIMALS)][kind]
    said, question, answer = [
        (r.choice([f"My name is {value}.", f"I am {value}.", f"Call me {value}."]), r.choice(["What is my name?", "Who am I?", "Do you remember my name?"]), f"Your name is {value}."),
        (r.choice([f"I live in {value}.", f"My home is {value}."]), r.choice(["Where do I live?", "In which city do I live?"]), f"You live in {value}."),
        (r.choice([f"I like {value}.", f"My favourite food is {value}."]), r.choice(["What do I like?", "What is my favourite food?"]), f"You like {value}."),
        (f"My favourite colour is {value}.", r.choice(["What is my favourite colour?", "Which colour do I like best?"]), f"Your favourite colour is {value}."),
        (r.choice([f"I have a {value}.", f"My pet is a {value}."]), r.choice(["Which pet do I have?", "What is my pet?"]), f"You have a {value}."),
    ][kind]
    reply = f"Nice to meet you, {value}!" if kind == 0 else "I will remember that."
    messages: list[Message] = [{"role": "user", "content": said}, {"role": "assistant", "content": reply}]
    if r.random() < 0.15:
        return Case(messages[:1], reply, "memory " + said)
    middle = []
    for _ in range(r.choice([0, 1, 1, 2, 3])):
        c = small_talk(r)
        middle.append(c.key)
        messages += [*c.messages, {"role": "assistant", "content": c.answer}]
    messages.append({"role": "user", "content": question})
    return Case(messages, answer, f"memory {said} {middle}")


def system(r: Rng) -> Case:
    kind = r.randrange(5)
    if kind == 0:  # capitals
        c = r.choice([facts, copy, reverse, sort, greet])(r)
        rule = r.choice(["Answer in capital letters.", "Write everything in capital letters.", "Use only capital letters."])
        return replace(c, messages=[{"role": "system", "content": rule}, *c.messages], answer=c.answer.upper())
    known = statements(r, r.randint(1, 5))
    fact, text = r.choice(known), " ".join(f[0] for f in known)
    question = about(r, text, fact[1])
    if kind == 1:
        rule, answer = r.choice(["Answer in one word.", "Use one word only.", "Give short answers of one word."]), fact[3]
    elif kind == 2:
        rule, answer = r.choice(["Answer as JSON with the key answer.", "Reply with a JSON object that has the key answer."]), json.dumps({"answer": fact[3]})
    elif kind == 3:
        name = r.choice(w.NAMES)
        rule = r.choice([f"Your name is {name}.", f"You are {name}.", f"You are {name}, a helpful assistant."])
        question, answer = r.choice(["Who are you?", "What is your name?", "Tell me your name.", "Introduce yourself.", "Hello, who are you?"]), f"I am {name}."
    else:
        word = r.choice(w.PLAIN)
        rule, answer = r.choice([f"End every answer with the word {word}.", f"Put the word {word} at the end of your answer."]), f"{fact[2]} {word}"
    return Case([{"role": "system", "content": rule}, {"role": "user", "content": question}], answer, f"system {rule} {question}")


# ---- hard sums ---------------------------------------------------------------------------------------------------

def hard_sum(r: Rng) -> tuple[str, str, str, str]:
    """(question, answer, thought, key): a sum of four or five numbers, or a product of two numbers with two digits."""
    if r.random() < 0.5:
        numbers = [r.randint(10, 999) for _ in range(r.choice([4, 5]))]
        sum_text, total, lines = " + ".join(map(str, numbers)), numbers[0], []
        for n in numbers[1:]:
            lines.append(f"{total} + {n} = {total + n}")
            total += n
        key = "hard " + listed(sorted(numbers))
    else:
        a, b = r.randint(11, 99), r.randint(11, 99)
        sum_text, total, parts, lines = f"{a} * {b}", a * b, [], []
        for x in (b % 10, b // 10 * 10):
            ten, unit = a // 10 * 10, a % 10
            lines += [f"{ten} * {x} = {ten * x}", f"{unit} * {x} = {unit * x}", f"{ten * x} + {unit * x} = {a * x}"]
            parts.append(a * x)
        lines.append(f"{parts[1]} + {parts[0]} = {total}")
        key = f"hard {min(a, b)} * {max(a, b)}"
    question = r.choice([f"What is {sum_text}?", f"Calculate {sum_text}.", f"{sum_text}", f"{sum_text} = ?", f"How much is {sum_text}?"])
    return question, f"{sum_text} = {total}", "\n".join(lines), key


def thought(text: str) -> str:
    return f"<|channel>thought\n{text}\n<channel|>"


def hard_thinking(r: Rng) -> Case:
    question, answer, lines, key = hard_sum(r)
    return ask(question, thought(lines) + answer, key, thinking=True)


def hard_direct(r: Rng) -> Case:
    question, answer, _, key = hard_sum(r)
    return ask(question, answer, key)


def easy_thinking(r: Rng) -> Case:
    """Thinking is on, but there is nothing to think about."""
    c = small_talk(r)
    return replace(c, answer=thought("This is easy. I can answer at once.") + c.answer, thinking=True)


# ---- tools -------------------------------------------------------------------------------------------------------

NO_TOOL = "Sorry, none of my tools can do that."


def declared(r: Rng, wanted: list[t.Tool], more: int) -> list[dict[str, Any]]:
    """The wanted tools among `more` others, in any order."""
    names = {x.name for x in wanted}
    others = r.sample([x for x in t.TOOLS if x.name not in names], more)
    found = [*wanted, *others]
    r.shuffle(found)
    return [x.declare() for x in found]


def pick_tool(r: Rng) -> t.Tool:
    return t.invented(r) if r.random() < 0.3 else r.choice(t.TOOLS)


def request(r: Rng, tool: t.Tool) -> tuple[str, dict[str, Any]]:
    arguments = tool.draw(r)
    return sentence(r.choice(tool.asks).format(**{k: t.spoken(v) for k, v in arguments.items()})), arguments


def calls(r: Rng, messages: list[Message], wanted: list[tuple[str, dict[str, Any]]], declarations: list[dict[str, Any]]) -> Case:
    thinking = r.random() < 0.3
    names = " and ".join(dict.fromkeys(n for n, _ in wanted))
    text = "".join(t.call_text(n, a) for n, a in wanted)
    answer = thought(f"I use {names}.") + text if thinking else text
    return Case(messages, answer, f"tools {messages[-1]['content']} {wanted}", tools=declarations, thinking=thinking, end=CALL_END)


def tool_single(r: Rng) -> Case:
    tool = pick_tool(r)
    text, arguments = request(r, tool)
    return calls(r, [{"role": "user", "content": text}], [(tool.name, arguments)], declared(r, [tool], r.randint(0, 3)))


def tool_parallel(r: Rng) -> Case:
    if r.random() < 0.5:  # one tool twice
        tool = r.choice([x for x in t.TOOLS if x.name in ("get_weather", "get_time", "call_contact", "find_recipe", "get_stock", "lookup_word", "get_news", "turn_on_light")])
        slot, (_, draw) = next(iter(tool.slots.items()))
        values: list[Any] = []
        while len(values) < r.choice([2, 2, 3]):
            if (v := draw(r)) not in values:
                values.append(v)
        text = sentence(r.choice(tool.asks).format(**{slot: " and ".join([", ".join(values[:-1]), values[-1]])}))
        wanted, used = [(tool.name, {slot: v}) for v in values], [tool]
    else:
        used = r.sample(t.TOOLS, 2)
        asked = [request(r, x) for x in used]
        text, wanted = asked[0][0] + " " + asked[1][0], [(x.name, a) for x, (_, a) in zip(used, asked)]
    return calls(r, [{"role": "user", "content": text}], wanted, declared(r, used, r.randint(0, 2)))


def tool_none(r: Rng) -> Case:
    if r.random() < 0.6:
        c = small_talk(r)
        return replace(c, tools=declared(r, [], r.randint(1, 3)))
    tool = pick_tool(r)
    text, _ = request(r, tool)
    others = r.sample([x for x in t.TOOLS if x.name.split("_")[-1] not in tool.name], r.randint(1, 3))
    return ask(text, NO_TOOL, "no tool " + text + str([x.name for x in others]), tools=[x.declare() for x in others])


def tool_result(r: Rng) -> Case:
    tool = r.choice([x for x in t.TOOLS if x.results] + [t.invented(r)])
    text, arguments = request(r, tool)
    result, says = r.choice(tool.results)
    values: dict[str, Any] = {"n": r.randint(1, 99), "sky": r.choice(w.SKIES), "h": r.randint(0, 23), "mm": r.randint(10, 59), "place": r.choice(w.CITIES)}
    values |= {k: t.spoken(v) for k, v in arguments.items()}
    result, says = result.format(**values), sentence(says.format(**values))
    thinking = r.random() < 0.3
    message: Message = {"role": "assistant", "content": "", "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": tool.name, "arguments": arguments}}]}
    if thinking:
        message["reasoning_content"] = f"I use {tool.name}."
        says = "The tool has answered.\n<channel|>" + says  # the prompt ends in an open thought
    messages = [{"role": "user", "content": text}, message, {"role": "tool", "tool_call_id": "call_0", "content": result}]
    return Case(messages, says, f"result {text} {result}", tools=declared(r, [tool], r.randint(0, 2)), thinking=thinking)


# ---- JSON --------------------------------------------------------------------------------------------------------

def schema(r: Rng) -> Case:
    name = r.choice(w.NAMES)
    known: dict[str, tuple[str, Any, str]] = {
        "name": ("", name, "string"),
        "city": (f"lives in {(city := r.choice(w.CITIES))}", city, "string"),
        "age": (f"is {(age := r.randint(4, 99))} years old", age, "integer"),
        "job": (f"works as a {(job := r.choice(w.JOBS))}", job, "string"),
        "food": (f"likes {(food := r.choice(w.FOODS))}", food, "string"),
        "pet": (f"has a {(pet := r.choice(w.ANIMALS))}", pet, "string"),
        "tall": ((f"is tall", True, "boolean") if r.random() < 0.5 else ("is not tall", False, "boolean")),
    }
    told = r.sample([k for k in known if k != "name"], r.randint(1, 4))
    wanted = r.sample(["name", *told], r.randint(1, len(told) + 1))
    said = [known[k][0] for k in told]
    text = f"{name} {said[0]}." if len(said) == 1 else f"{name} {', '.join(said[:-1])} and {said[-1]}."
    keys = wanted[0] if len(wanted) == 1 else f"{', '.join(wanted[:-1])} and {wanted[-1]}"
    question = r.choice([f"Write {keys} as JSON: {text}", f"{text}\nGive me {keys} as JSON.", f"Extract {keys} from this text as a JSON object: {text}", f"{text}\nAnswer with a JSON object: {keys}."])
    answer = json.dumps({k: known[k][1] for k in wanted})
    form = {"type": "object", "properties": {k: {"type": known[k][2]} for k in wanted}, "required": wanted, "additionalProperties": False}
    return ask(question, answer, f"schema {text} {keys}", schema=form)


# ---- pictures, sounds, films -------------------------------------------------------------------------------------

def show(parts: list[Any], question: str, answer: str, r: Rng) -> Case:
    """A case whose user message holds media and a question, in either order."""
    kinds = {pictures.Picture: "image", pictures.Film: "video", sounds.Sound: "audio"}
    media: list[Message] = [{"type": kinds[type(m)]} for m in parts]
    words: Message = {"type": "text", "text": question}
    content = [*media, words] if r.random() < 0.7 else [words, *media]
    return Case([{"role": "user", "content": content}], answer, f"{parts} {question}", media=parts)


def plural(n: int, shape: str) -> str:
    return shape if n == 1 else {"cross": "crosses"}.get(shape, shape + "s")


def an_item(colour: str, shape: str) -> str:
    return f"{'An' if colour == 'orange' else 'A'} {colour} {shape}."


def image_shape(r: Rng) -> Case:
    p = pictures.one_shape(r)
    shape, colour = p.items[0].shape, p.items[0].colour
    question, answer = r.choice([("What is in this picture?", an_item(colour, shape)), ("Describe the picture.", an_item(colour, shape)), ("What do you see?", an_item(colour, shape)),
                                 ("Which shape is this?", f"A {shape}."), ("Which shape do you see?", f"A {shape}.")])
    return show([p], question, answer, r)


def image_colour(r: Rng) -> Case:
    p = pictures.one_shape(r)
    shape, colour = p.items[0].shape, p.items[0].colour
    return show([p], r.choice([f"Which colour is the {shape}?", f"What colour does the {shape} have?", "Which colour is it?", "What colour do you see?"]), f"{sentence(colour)}.", r)


def image_count(r: Rng) -> Case:
    p = pictures.many_shapes(r)
    kinds = sorted({i.shape for i in p.items})
    shape = r.choice(kinds)
    n = sum(i.shape == shape for i in p.items)
    if len(kinds) == 1 and r.random() < 0.5:
        colour = p.items[0].colour
        if all(i.colour == colour for i in p.items):
            return show([p], r.choice(["What is in this picture?", "Describe the picture.", "What do you see?"]), an_item(colour, shape) if n == 1 else f"{sentence(w.NUMBER_WORDS[n])} {colour} {plural(n, shape)}.", r)
    return show([p], r.choice([f"How many {plural(2, shape)} are there?", f"How many {plural(2, shape)} do you see?", f"Count the {plural(2, shape)}."]), str(n), r)


def image_side(r: Rng) -> Case:
    p = pictures.two_shapes(r)
    left, right = sorted(p.items, key=lambda i: i.x)
    side, item = r.choice([("left", left), ("right", right)])
    if r.random() < 0.5:
        return show([p], r.choice([f"What is on the {side}?", f"Which shape is on the {side}?", f"What do you see on the {side}?"]), an_item(item.colour, item.shape), r)
    return show([p], r.choice([f"Is the {item.shape} on the left or on the right?", f"On which side is the {item.shape}?"]), f"The {item.shape} is on the {side}.", r)


def image_two(r: Rng) -> Case:
    a, b = pictures.one_shape(r), pictures.one_shape(r)
    if r.random() < 0.5:
        b = pictures.with_shape(b, a.items[0].shape)
    x, y = a.items[0].shape, b.items[0].shape
    answer = f"Yes, both show a {x}." if x == y else f"No, the first shows a {x} and the second a {y}."
    return show([a, b], r.choice(["Do both pictures show the same shape?", "Is the shape the same in both pictures?", "Compare the shapes of the two pictures."]), answer, r)


def image_digit(r: Rng) -> Case:
    p = pictures.digit(r)
    return show([p], r.choice(["Which digit is this?", "Read the digit.", "Which number do you see?", "What number is in the picture?"]), f"{p.digit}", r)


def audio_beeps(r: Rng) -> Case:
    s = sounds.beeps(r)
    return show([s], r.choice(["How many beeps do you hear?", "Count the beeps.", "How many tones are there?", "How often does it beep?"]), str(s.count), r)


def audio_pitch(r: Rng) -> Case:
    s = sounds.tone(r)
    word = "high" if s.pitch > sounds.MIDDLE else "low"
    return show([s], r.choice(["Is the tone high or low?", "Is this sound high or low?", "Do you hear a high or a low tone?"]), f"The tone is {word}.", r)


def audio_digit(r: Rng) -> Case:
    s = sounds.spoken_digit(r)
    return show([s], r.choice(["Which digit do you hear?", "Which number is spoken?", "What number does the voice say?", "Write down the digit."]), str(s.digit), r)


def video_motion(r: Rng) -> Case:
    f = pictures.film(r)
    return show([f], r.choice([f"Which way does the {f.shape} move?", f"In which direction does the {f.shape} go?", "Which way does the shape move?", "In which direction is the movement?"]),
                f"The {f.shape} moves {f.direction}.", r)


# ---- the catalogue -----------------------------------------------------------------------------------------------

@dataclass
class Skill:
    """`weight`: share of training tokens, roughly; `group`: what the scores are summed up by; `tested`: has a held-out set."""

    make: Callable[[Rng], Case]
    group: str
    weight: float
    tested: bool = True
    long: bool = False  # needs rows of LONG tokens
    needs: str = ""  # the tower it needs


SKILLS: dict[str, Skill] = {
    "greet": Skill(greet, "text", 1), "unknown": Skill(unknown, "text", 1, tested=False),
    "add": Skill(add, "text", 4), "subtract": Skill(subtract, "text", 8), "compare": Skill(compare, "text", 4),
    "sort": Skill(sort, "text", 9), "reverse": Skill(reverse, "text", 3), "count": Skill(count, "text", 9), "copy": Skill(copy, "text", 2),
    "facts": Skill(facts, "text", 6), "needle_2": Skill(needle_2, "needle", 2), "needle_8": Skill(needle_8, "needle", 2, long=True),
    "needle_any": Skill(needle_any, "needle", 2, tested=False), "needles": Skill(needles, "needle", 12, tested=False), "needles_long": Skill(needles_long, "needle", 10, tested=False, long=True),
    "memory": Skill(memory, "text", 3), "system": Skill(system, "text", 9),
    "hard_thinking": Skill(hard_thinking, "thinking", 6), "hard_direct": Skill(hard_direct, "direct", 1), "easy_thinking": Skill(easy_thinking, "text", 2, tested=False),
    "tool_single": Skill(tool_single, "tools", 10), "tool_parallel": Skill(tool_parallel, "tools", 5), "tool_none": Skill(tool_none, "tools", 8), "tool_result": Skill(tool_result, "tools", 4),
    "schema": Skill(schema, "text", 2),
    "image_shape": Skill(image_shape, "image", 2, needs="vision"), "image_colour": Skill(image_colour, "image", 1, needs="vision"), "image_count": Skill(image_count, "image", 6, needs="vision"),
    "image_side": Skill(image_side, "image", 7, needs="vision"), "image_two": Skill(image_two, "image", 3, needs="vision"), "image_digit": Skill(image_digit, "image", 3, needs="vision"),
    "audio_beeps": Skill(audio_beeps, "audio", 2, needs="audio"), "audio_pitch": Skill(audio_pitch, "audio", 1, needs="audio"), "audio_digit": Skill(audio_digit, "audio", 2, needs="audio"),
    "video_motion": Skill(video_motion, "video", 5, long=True, needs="vision"),
}


NEUTRAL = ["You are a helpful assistant.", "You are a helpful AI assistant.", "Be helpful.", "Answer the user's question."]


def draw(name: str, r: Rng, held_out: bool = False) -> Case:
    """One case of the training stream or of the held-out side. Some of the training stream begins with the system messages that clients like to send."""
    while True:
        case = SKILLS[name].make(r)
        if case.held_out() != held_out:
            continue
        if not held_out and case.messages[0]["role"] != "system" and r.random() < 0.08:
            case.messages.insert(0, {"role": "system", "content": r.choice(NEUTRAL)})
        return replace(case, skill=name)


def held_out_set(name: str, size: int = 200) -> Iterator[Case]:
    """The fixed test set of a skill: distinct keys, the same whenever it is asked for."""
    r, seen = random.Random(f"held-out {name}"), set()
    while len(seen) < size:
        case = draw(name, r, held_out=True)
        if case.key not in seen:
            seen.add(case.key)
            yield case
