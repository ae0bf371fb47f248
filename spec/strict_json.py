"""JSON as FORMAT.md section 4 wants it (J1 to J7), and the one exception that all modules here raise.

Objects keep their order and their duplicates: the rules of each text decide what a duplicate means.
"""

import re

LIMIT_63 = 1 << 63
LIMIT_64 = 1 << 64


class FormatError(Exception):
    """A file breaks a rule. code: the name that FORMAT.md ties to the rule; where: "name:begin-end" of a bad chunk."""

    def __init__(self, code, message, where="-"):
        super().__init__(f"{code}: {message}")
        self.code, self.where = code, where


class Members(list):
    """A JSON object: its (key, value) pairs in text order."""


class MinusZero:
    """The number `-0`, an integer by its form that no rule accepts."""


MINUS_ZERO = MinusZero()

_SPACE = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'"([^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*)"')
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_PLAIN_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS = {"null": None, "true": True, "false": False}


class JsonParser:
    """One JSON text. Iterative, so that depth is bounded by `max_depth` alone."""

    def __init__(self, text, max_depth, not_json, too_deep=None, number_range=None):
        self.text, self.at, self.max_depth = text, 0, max_depth
        self.not_json, self.too_deep, self.number_range = (not_json, too_deep or not_json, number_range or not_json)

    def parse(self):
        stack, keys = [], []  # open containers; the key each open object waits to give a value
        while True:
            self.skip_space()
            opener = self.peek()
            if opener == "{" or opener == "[":
                if len(stack) == self.max_depth:
                    raise FormatError(self.too_deep, f"more than {self.max_depth} levels at character {self.at}")
                stack.append(Members() if opener == "{" else [])
                self.take()
                if self.peek() != ("}" if opener == "{" else "]"):
                    if opener == "{":
                        keys.append(self.key())
                    continue
                self.at += 1
                value = stack.pop()
            else:
                value = self.scalar()
            # A value is complete: attach it, and close the containers that end here.
            while True:
                self.skip_space()
                if not stack:
                    if self.at != len(self.text):
                        self.fail("something follows the value")
                    return value
                top = stack[-1]
                top.append((keys.pop(), value) if isinstance(top, Members) else value)
                mark = self.take()
                if mark == ",":
                    if isinstance(top, Members):
                        keys.append(self.key())
                    break
                if mark != ("}" if isinstance(top, Members) else "]"):
                    self.fail(f"{mark!r} where ',' or the end of an object or array was wanted")
                value = stack.pop()

    def fail(self, why, code=None):
        raise FormatError(code or self.not_json, f"{why}, at character {self.at}")

    def skip_space(self):
        self.at = _SPACE.match(self.text, self.at).end()

    def peek(self):
        return self.text[self.at : self.at + 1]

    def take(self):
        """The next character; the white space after it is skipped."""
        character = self.peek()
        self.at += len(character)
        self.skip_space()
        return character

    def key(self):
        key = self.string()
        self.skip_space()
        if self.take() != ":":
            self.fail("no ':' after a key")
        return key

    def string(self):
        match = _STRING.match(self.text, self.at)
        if not match:
            self.fail("no string, or an unfinished or malformed one")
        self.at = match.end()
        raw = match[1]
        if "\\" not in raw:
            return raw
        text = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _PLAIN_ESCAPES.get(m[2], m[2]), raw)
        try:  # joins escaped surrogate pairs, and refuses half of one
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            self.fail("half of a surrogate pair")

    def scalar(self):
        if self.peek() == '"':
            return self.string()
        for word, value in _WORDS.items():
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return value
        match = _NUMBER.match(self.text, self.at)
        if not match:
            self.fail("no value")
        self.at = match.end()
        if match[1] or match[2]:
            value = float(match[0])
            if value in (float("inf"), float("-inf")):
                self.fail("a number that is too large for binary64", self.number_range)
            return value
        if match[0] == "-0":
            return MINUS_ZERO
        if len(match[0]) > 20 or not -LIMIT_63 <= int(match[0]) < LIMIT_64:
            self.fail("an integer that does not fit 64 bits", self.number_range)
        return int(match[0])


def decode_utf8(raw, code):
    try:
        return bytes(raw).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(code, f"not UTF-8 at byte {error.start}") from None


def is_size(value):
    """Whether this is an integer in [0, 2^63)."""
    return type(value) is int and 0 <= value < LIMIT_63
