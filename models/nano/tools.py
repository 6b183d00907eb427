"""The tools that the corpus declares, with the ways in which people ask for them."""

import random
from dataclasses import dataclass, field
from typing import Any, Callable

import words as w

Rng = random.Random


def one(words: list[str]) -> Callable[[Rng], str]:
    return lambda r: r.choice(words)


def number(low: int, high: int) -> Callable[[Rng], int]:
    return lambda r: r.randint(low, high)


@dataclass
class Tool:
    """`slots`: argument -> (JSON Schema of it, draws a value). `asks`: requests with {argument} in them; each names every slot."""

    name: str
    description: str
    slots: dict[str, tuple[dict[str, Any], Callable[[Rng], Any]]]
    asks: list[str]
    results: list[tuple[str, str]] = field(default_factory=list)  # (what the tool returns, what the model says then)

    def declare(self) -> dict[str, Any]:
        """The tool as the `tools` entry of a chat request."""
        parameters = {"type": "object", "properties": {k: schema for k, (schema, _) in self.slots.items()}, "required": list(self.slots)}
        return {"type": "function", "function": {"name": self.name, "description": self.description, "parameters": parameters}}

    def draw(self, r: Rng) -> dict[str, Any]:
        return {k: draw(r) for k, (_, draw) in self.slots.items()}


def text(about: str) -> dict[str, Any]:
    return {"type": "string", "description": about}


def integer(about: str) -> dict[str, Any]:
    return {"type": "integer", "description": about}


CITY = (text("City name"), one(w.CITIES))
ROOM = (text("Room of the house"), one(w.ROOMS))
PERSON = (text("Name of the person"), one(w.NAMES))

TOOLS = [
    Tool("get_weather", "Get the current weather of a city.", {"city": CITY},
         ["What is the weather in {city}?", "How is the weather in {city} today?", "Tell me the weather in {city}.", "Weather in {city}?"],
         [('{{"temp": {n}, "sky": "{sky}"}}', "It is {n} degrees and {sky} in {city}."), ("{n} degrees, {sky}", "It is {n} degrees and {sky} in {city}.")]),
    Tool("get_time", "Get the local time of a city.", {"city": CITY},
         ["What time is it in {city}?", "Tell me the time in {city}.", "What is the local time in {city}?"], [("{h}:{mm}", "It is {h}:{mm} in {city}.")]),
    Tool("set_timer", "Start a timer.", {"minutes": (integer("Length in minutes"), number(1, 90))},
         ["Set a timer for {minutes} minutes.", "Start a timer of {minutes} minutes.", "Please wake me in {minutes} minutes."], [("ok", "The timer is set for {minutes} minutes.")]),
    Tool("set_alarm", "Set an alarm.", {"hour": (integer("Hour"), number(0, 23)), "minute": (integer("Minute"), number(10, 59))},
         ["Set an alarm for {hour}:{minute}.", "Wake me at {hour}:{minute}.", "I want to get up at {hour}:{minute}."], [("ok", "The alarm is set for {hour}:{minute}.")]),
    Tool("convert_currency", "Convert an amount of money.", {"amount": (integer("Amount of money"), number(1, 999)), "source": (text("Currency to convert from"), one(w.CURRENCIES)), "target": (text("Currency to convert to"), one(w.CURRENCIES))},
         ["Convert {amount} {source} to {target}.", "How much is {amount} {source} in {target}?", "Change {amount} {source} into {target}."], [("{n}", "{amount} {source} are {n} {target}.")]),
    Tool("search_flights", "Find flights between two cities.", {"origin": (text("City of departure"), one(w.CITIES)), "destination": (text("City of arrival"), one(w.CITIES))},
         ["Find a flight from {origin} to {destination}.", "I want to fly from {origin} to {destination}.", "Are there flights from {origin} to {destination}?"], [("{n} flights", "There are {n} flights from {origin} to {destination}.")]),
    Tool("get_distance", "Distance between two cities in kilometres.", {"origin": (text("First city"), one(w.CITIES)), "destination": (text("Second city"), one(w.CITIES))},
         ["How far is it from {origin} to {destination}?", "What is the distance between {origin} and {destination}?"], [("{n}", "It is {n} kilometres from {origin} to {destination}.")]),
    Tool("send_message", "Send a text message.", {"person": PERSON, "text": (text("Text of the message"), lambda r: " ".join(r.sample(w.PLAIN, r.randint(2, 4))))},
         ["Send {person} the message: {text}", "Write to {person}: {text}", "Text {person} this: {text}"], [("sent", "I sent the message to {person}.")]),
    Tool("call_contact", "Call a person.", {"person": PERSON}, ["Call {person}.", "Please phone {person}.", "I want to talk to {person}, call now."], [("busy", "{person} is busy."), ("ok", "I am calling {person}.")]),
    Tool("turn_on_light", "Turn on the light in a room.", {"room": ROOM}, ["Turn on the light in the {room}.", "Make light in the {room}.", "It is dark in the {room}, turn on the light."], [("ok", "The light in the {room} is on.")]),
    Tool("turn_off_light", "Turn off the light in a room.", {"room": ROOM}, ["Turn off the light in the {room}.", "No more light in the {room}, please turn it off."], [("ok", "The light in the {room} is off.")]),
    Tool("set_temperature", "Set the temperature of a room.", {"room": ROOM, "degrees": (integer("Temperature"), number(12, 28))},
         ["Set the {room} to {degrees} degrees.", "Make it {degrees} degrees in the {room}.", "Heat the {room} to {degrees} degrees."], [("ok", "The {room} is set to {degrees} degrees.")]),
    Tool("order_food", "Order food.", {"dish": (text("What to eat"), one(w.FOODS)), "count": (integer("How many"), number(1, 20))},
         ["Order {count} times {dish}.", "I want {count} portions of {dish}.", "Please order {dish}, {count} portions."], [("ok", "I ordered {count} portions of {dish}.")]),
    Tool("book_table", "Book a table in a restaurant.", {"people": (integer("Number of guests"), number(1, 12)), "day": (text("Day of the week"), one(w.DAYS))},
         ["Book a table for {people} people on {day}.", "I need a table on {day} for {people}.", "Reserve a table for {people} on {day}."], [("full", "There is no table on {day}."), ("ok", "A table for {people} people is booked on {day}.")]),
    Tool("find_recipe", "Find a recipe.", {"dish": (text("Main ingredient"), one(w.FOODS))}, ["Find a recipe with {dish}.", "What can I cook with {dish}?", "I need a recipe for {dish}."]),
    Tool("get_stock", "Number of items in the store.", {"item": (text("Item"), one(w.OBJECTS))},
         ["How many of the item {item} are in stock?", "Check the stock of {item}.", "Do we have any {item} in the store?"], [("{n}", "There are {n} of the item {item}.")]),
    Tool("buy_item", "Buy something.", {"item": (text("Item"), one(w.OBJECTS)), "count": (integer("How many"), number(1, 50))},
         ["Buy {count} of the item {item}.", "I want to buy {item}, {count} of them.", "Get me {count} times the item {item}."], [("ok", "I bought {count} of the item {item}.")]),
    Tool("translate", "Translate a word.", {"word": (text("Word to translate"), one(w.PLAIN)), "language": (text("Language to translate to"), one(w.LANGUAGES))},
         ["Translate {word} to {language}.", "What is {word} in {language}?", "How do I say {word} in {language}?"]),
    Tool("lookup_word", "Look up a word in the dictionary.", {"word": (text("Word"), one(w.PLAIN))}, ["Look up the word {word}.", "What does the word {word} mean?", "Find {word} in the dictionary."]),
    Tool("roll_dice", "Roll dice.", {"count": (integer("How many dice"), number(1, 9)), "sides": (integer("Sides of one die"), number(4, 20))},
         ["Roll {count} dice with {sides} sides.", "Throw {count} dice that have {sides} sides."], [("{n}", "The dice show {n}.")]),
    Tool("get_news", "Read the news about a topic.", {"topic": (text("Topic"), one(w.TOPICS))}, ["What is new about {topic}?", "Read me the news about {topic}.", "Any news on {topic}?"]),
    Tool("add_event", "Add an event to the calendar.", {"title": (text("Name of the event"), one(w.VERBS + w.JOBS)), "day": (text("Day of the week"), one(w.DAYS))},
         ["Add {title} to my calendar on {day}.", "Put {title} in the calendar for {day}.", "On {day} I have {title}, note it."], [("ok", "{title} is in the calendar on {day}.")]),
    Tool("play_song", "Play music by a singer.", {"singer": (text("Name of the singer"), one(w.NAMES))}, ["Play a song by {singer}.", "I want to hear {singer}.", "Put on music by {singer}."], [("ok", "I play a song by {singer}.")]),
    Tool("feed_pet", "Feed an animal.", {"animal": (text("Kind of animal"), one(w.ANIMALS)), "grams": (integer("Amount of food in grams"), number(5, 500))},
         ["Give the {animal} {grams} grams of food.", "Feed the {animal} with {grams} grams.", "The {animal} is hungry, give it {grams} grams."], [("ok", "The {animal} got {grams} grams of food.")]),
    Tool("track_parcel", "Find out where a parcel is.", {"number": (integer("Number of the parcel"), number(1000, 9999))},
         ["Where is my parcel {number}?", "Track parcel {number}.", "Find the parcel with the number {number}."], [("{place}", "The parcel {number} is in {place}.")]),
    Tool("open_door", "Open or close a door.", {"room": ROOM, "action": ({"type": "string", "description": "What to do", "enum": ["open", "close"]}, one(["open", "close"]))},
         ["Please {action} the door of the {room}.", "{action} the {room} door."], [("ok", "Done.")]),
    Tool("share_file", "Share a file with people.", {"file": (text("Name of the file"), one(w.OBJECTS)), "people": ({"type": "array", "description": "Names", "items": {"type": "string"}}, lambda r: r.sample(w.NAMES, 2))},
         ["Share the file {file} with {people}.", "Give {people} access to the file {file}."], [("ok", "The file {file} is shared.")]),
]


def invented(r: Rng) -> Tool:
    """A tool that no other case has: its name and arguments are made of random words, its requests name them."""
    kinds = [(text(r.choice(["Name", "Word", "Value", "Thing"])), one(w.PLAIN)), (text("Name of the person"), one(w.NAMES)), (integer("Number"), number(0, 999))]
    slots = {name: r.choice(kinds) for name in r.sample(w.OBJECTS + w.ANIMALS, r.randint(1, 3))}
    name = f"{r.choice(w.VERBS)}_{r.choice(w.PLAIN)}"
    listed = " and ".join(f"{k} {{{k}}}" for k in slots)
    asks = [f"Use {name} with {listed}.", f"Please {name.replace('_', ' ')} with {listed}.", f"Run {name}: {listed}."]
    return Tool(name, f"{r.choice(w.VERBS).capitalize()} the {r.choice(w.OBJECTS)}.", slots, asks, [("ok", "Done.")])


def spoken(value: Any) -> str:
    """An argument as people say it."""
    return " and ".join(value) if isinstance(value, list) else str(value)


def native(value: Any) -> str:
    """An argument as the model writes it."""
    if isinstance(value, str):
        return f'<|"|>{value}<|"|>'
    if isinstance(value, list):
        return "[" + ",".join(map(native, value)) + "]"
    return str(value)


def call_text(name: str, arguments: dict[str, Any]) -> str:
    """A call as the model writes it: keys in order, strings between their own delimiters."""
    return f"<|tool_call>call:{name}{{" + ",".join(f"{k}:{native(arguments[k])}" for k in sorted(arguments, key=str.lower)) + "}<tool_call|>"
