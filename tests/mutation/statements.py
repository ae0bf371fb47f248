"""The statements of a C++ source, as far as the mutation check needs them: a parser for the style of
this project, which a compiler has accepted already. It knows blocks, if, loops, switch, return and
everything that ends in a semicolon, and looks into lambdas.

functions(code) takes text whose comments and literals are blanked (blank() of tests/tidy.py) and
gives the functions with their statements; places are offsets into that text.
"""

import dataclasses
import re

SCOPE = re.compile(r"\s*(?:template\s*<[^{}]*>\s*)?(?:inline\s+)?(?:namespace|class|struct|union|enum|extern)\b")
LAMBDA = re.compile(r"\[[^\[\]]*\]\s*(\([^()]*(?:\([^()]*\)[^()]*)*\))?\s*((?:mutable|noexcept|->[^{};]+)\s*)*\{")
CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclasses.dataclass
class Statement:
    kind: str            # block, if, while, for, range, do, switch, return, simple, empty
    begin: int
    end: int             # after it
    function: str        # the name of the function that it is in
    returns: str         # what that returns, as written; "" in a lambda that does not say so
    head: tuple = None   # of if and loops: the offsets between the parentheses
    body: list = dataclasses.field(default_factory=list)     # statements controlled by it
    lambdas: list = dataclasses.field(default_factory=list)  # statements of lambdas in it
    in_block: bool = False  # stands directly in a block, where a declaration may stand before it


def match_close(code, at):
    """The offset of the bracket that closes the one at `at`."""
    stack = []
    for i in range(at, len(code)):
        if code[i] in CLOSING:
            stack.append(CLOSING[code[i]])
        elif stack and code[i] == stack[-1]:
            stack.pop()
            if not stack:
                return i
    raise ValueError(f"nothing closes {code[at:at + 60]!r}")


def find_top(code, begin, end, wanted):
    """The first offset in [begin, end) at which a member of `wanted` stands in no brackets, or -1."""
    i = begin
    while i < end:
        for each in wanted:
            if code.startswith(each, i):
                return i
        i = match_close(code, i) + 1 if code[i] in CLOSING else i + 1
    return -1


class Parser:
    def __init__(self, code):
        self.code = code
        self.function = ""
        self.returns = ""

    def skip_blanks(self, at):
        while self.code[at].isspace():
            at += 1
        return at

    def make(self, kind, begin, **more):
        return Statement(kind, begin, begin, self.function, self.returns, **more)

    def block(self, at):
        """The statements between the brace at `at` and its closing one, and the offset after it."""
        statements = []
        at = self.skip_blanks(at + 1)
        while self.code[at] != "}":
            statement = self.statement(at)
            statement.in_block = True
            statements.append(statement)
            at = self.skip_blanks(statement.end)
        return statements, at + 1

    def lambdas(self, begin, end):
        found = []
        while match := LAMBDA.search(self.code, begin, end):
            outside = self.returns
            arrow = re.search(r"->\s*([^{]+)\{$", match.group())
            self.returns = arrow.group(1).strip() if arrow else ""
            statements, begin = self.block(match.end() - 1)
            self.returns = outside
            found += statements
        return found

    def statement(self, at):
        code = self.code
        word = re.compile(r"[A-Za-z_]\w*|").match(code, at).group()
        if label := re.compile(r"(?:case\s+(?:[\w]|::)+|default)\s*:(?!:)").match(code, at):
            return self.statement(self.skip_blanks(label.end()))
        if code[at] == "{":
            statement = self.make("block", at)
            statement.body, statement.end = self.block(at)
            return statement
        if word in ("if", "while", "for", "switch"):
            return self.controlled(word, at)
        if word == "do":
            statement = self.make("do", at)
            body = self.statement(self.skip_blanks(at + 2))
            statement.body = [body]
            statement.end = code.index(";", match_close(code, code.index("(", body.end))) + 1
            return statement
        kind = "return" if word == "return" else "empty" if code[at] == ";" else "simple"
        statement = self.make(kind, at)
        statement.end = find_top(code, at, len(code), (";",)) + 1
        statement.lambdas = self.lambdas(at, statement.end)
        return statement

    def controlled(self, word, at):
        code = self.code
        begin = code.index("(", at)
        end = match_close(code, begin)
        statement = self.make(word, at, head=(begin + 1, end))
        if word == "for" and find_top(code, begin + 1, end, (";",)) < 0:
            statement.kind = "range"
        statement.lambdas = self.lambdas(begin + 1, end)
        body = self.statement(self.skip_blanks(end + 1))
        statement.body = [body]
        statement.end = body.end
        after = self.skip_blanks(body.end)
        if word == "if" and re.compile(r"else\b").match(code, after):
            other = self.statement(self.skip_blanks(after + 4))
            statement.body.append(other)
            statement.end = other.end
        return statement

    def scope(self, at, end):
        """The statements of the functions in [at, end), which lie in a namespace or a class."""
        code = self.code
        found = []
        start = at
        while at < end:
            if code[at] == ";" or re.compile(r"(?:public|private|protected)\s*:").match(code, at):
                at = code.index(";" if code[at] == ";" else ":", at) + 1
                start = at
            elif code[at] == "{":
                close = match_close(code, at)
                head = re.sub(r"^\s*#.*$", "", code[start:at], flags=re.MULTILINE)
                if SCOPE.match(head):
                    found += self.scope(at + 1, close)
                elif "(" in head and "constexpr" not in head:
                    found += self.function_body(head, at)
                at = close + 1
                start = at
            elif code[at] in "([":
                at = match_close(code, at) + 1
            else:
                at += 1
        return found

    def function_body(self, head, at):
        match = re.match(r"(?P<returns>.*?)(?P<name>~?[\w:~]*(?:operator\S+)?)\s*\(", head.strip(), re.DOTALL)
        self.function = match.group("name")
        self.returns = re.sub(r"\[\[nodiscard\]\]|\b(?:static|virtual|explicit|friend|inline)\b|\s+", " ",
                              match.group("returns")).strip()
        self.returns = re.sub(r"^template <.*?> ", "", self.returns)
        return self.block(at)[0]


def functions(code):
    """All statements of all functions, each with those inside it below it."""
    code = re.sub(r"^[^\S\n]*#(?:.*\\\n)*.*$", lambda match: re.sub(r"[^\n]", " ", match.group()), code,
                  flags=re.MULTILINE)
    return Parser(code).scope(0, len(code))
