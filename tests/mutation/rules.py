"""What the mutation check breaks: the sources, the words by which a statement counts, what is done to
each kind of statement, and mutants that were written by hand.

A mutant is named by file, function, statement and mutation, not by a line, so that the list of accepted
survivors outlives edits above it.
"""

import dataclasses
import re

import statements

# The loader, what it reads and copies with, and cuda/. Globs from the root of the project.
SOURCES = ["src/load/*.[ch]pp", "src/io/direct_file.[ch]pp", "src/io/leased_*.[ch]pp", "src/io/reopen.cpp",
           "src/io/pages.cpp", "src/io/faster_way.hpp", "src/io/past_cache.[ch]pp", "src/io/digest.cpp",
           "cuda/*.[ch]pp"]
# The C interface: its tests are programs in C (tests/c), which are not run here.
NOT_SOURCES = ["cuda/cuda_c.cpp"]

# A statement counts when one of these matches it, without comments and literals. Of `if` this is the
# condition, and the statement after it, if there is one; for a loop, all of it.
WORDS = [
    ("lease", r"[lL]eased?_|\blease|LEASE|SETOWN|SETSIG|obeys|\bmap\(|map_pages|unmap\(|mapped_|pays\(|wanted\b|idle_"
              r"|populate|are_mapped|are_cached|is_chosen",
     "keeps others from changing a file, or gives that up"),
    ("wait", r"wait|sleep|pause\(|\bdone\b|is_complete|Query\(|timeout|deadline|limit\b|hung_|join"
             r"|timed_out|\bcomplete\b",
     "asks whether something is done, or waits until it is"),
    ("drain", r"finish|settle|drain|doubtful|abandon|forget|give_back|copying|put_back|\bend\(|try_take|\.take\("
              r"|pop_|unstage|release\(|reset|[Uu]nregister|Free|Destroy|destroyed|allocated|locked|idle|taken"
              r"|close\(|erase|\blive\b|generation|Reuse",
     "ends what is under way, or gives back what it used"),
    ("record", r"record|Record|fence|queue|copy\(|copy_past_cache|\bstore\(|\bcopies\b|Memcpy|memcpy|set_event"
               r"|add_unused|unused|begin\(slot|tickets|make_current|SetDevice|open_stream|Register|stage\(|stage_block"
               r"|Alloc|Malloc|left_of_segment|madvise",
     "queues copies, records what says that they are done, or makes the GPU current for that"),
    ("verify", r"check(?!point)|verif|digest|hash|XXH3|unchanged|share_bytes|fits|overlap|[aA]ttributes|st_ino"
               r"|alignment_of",
     "checks bytes, destinations, files or memory"),
    ("ready", r"ready|complete|job_done|jobs_left|readers|turn_|notify|next_group|bytes_done|progress|events_"
              r"|finished|add_up|peak",
     "counts towards, or announces, that something is ready"),
    ("stop", r"stop|fail|error|cancel|refused|direct|consume|LastError|status|queued|recorded|\bread\b|unsupported"
             r"|arrived|slot\b|started|thread",
     "notices an error or a wish to stop, passes it on, falls back, or cleans up after it"),
]

# And everything that is in functions of these names, which do nothing else.
FUNCTIONS = [
    ("drain", r"^TicketTable::|^wait|^drain$|::(?:wait|drain|settle|finish|wait_for_\w+|unregister_segments)$"),
    ("verify", r"^(?:share_bytes|check_\w+|open_direct)$|::check(?:_\w+)?$"),
    ("ready", r"^LoadGroups::"),
    ("stop", r"^LoadStop::|^consume$|^run_on_own_thread$"),
]

# Never: no more than names, declarations and texts.
NOT = re.compile(r"^(?:break|continue|using|struct|constexpr|static_assert|goto)\b|^std::swap|^return \*this;"
                 r"|^[\w.>-]+reserve\(|^seconds\[|^report\.\w*seconds")
DECLARATION = re.compile(r"(?:const\s+)?(?:std::)?[\w:]+(?:<.*?>)?[\s*&]+(?:const\s+)?(?:\w+|\[[\w, ]+\])"
                         r"\s*(?:=|\(|\{|;|,)", re.DOTALL)
TYPED = re.compile(r"(?:const\s+)?(bool|Result<void>|Result<bool>|cudaError_t)\s+(\w+)\s*=\s*")
CONDITION_DECLARES = re.compile(r"(?:const\s+)?[\w:]+(?:<.*>)?[\s*&]+(?:const\s+)?(\w+)\s*=\s*(?!=)")
ONLY_AN_ERROR = re.compile(r"\{?\s*return (?:make_error|Error\{|error\(|with_context|cuda_error|\w+_error|in_\w+\(|"
                           r"std::move\(\w+\)\.error)")
NOT_A_CALL = re.compile(r"(?:make_error|Error\b|error\(|with_context|cuda_error|\w+_error|in_\w+\(|std::move|\{|\w+$)")
IS = "::flatbed_mutation::is({0})"
OK = "::flatbed::Result<void>()"


@dataclasses.dataclass
class Mutant:
    file: str
    line: int
    function: str
    statement: str       # in one line
    mutation: str
    word: str            # by which it counts
    edits: list = None   # (offset, opens, text with {0} for the number): `opens` goes before, otherwise after
    number: int = 0

    def key(self):
        return (self.file, self.function, self.statement, self.mutation)


def word_of(text, function):
    """The word by which a statement counts, or ''."""
    for word, pattern, _ in WORDS:
        if re.search(pattern, text):
            return word
    return next((word for word, pattern in FUNCTIONS if re.search(pattern, function)), "")


def one_line(text):
    return re.sub(r"\s+", " ", text).strip()


class Finder:
    """The mutants of one file."""

    def __init__(self, path, text, code):
        self.path = path
        self.text = text
        self.code = code
        self.mutants = []
        self.ignored = []  # statements that no word matches, for --unmatched

    def find(self):
        for statement in statements.functions(self.code):
            self.visit(statement)
        return self.mutants

    def visit(self, s):
        words = self.code[s.begin:s.end]
        if s.kind == "if":
            words = self.code[s.head[0]:s.head[1]]
            if len(s.body) == 1 and s.body[0].kind in ("simple", "return"):
                words += self.code[s.body[0].begin:s.body[0].end]
        if s.kind not in ("block", "switch", "do", "empty") and not NOT.match(words):
            self.word = word_of(words, s.function)
            if self.word:
                getattr(self, "break_" + s.kind)(s)
            else:
                self.ignored.append(f"{self.path}: {s.function}: {one_line(self.text[s.begin:s.end])[:110]}")
        for each in s.body + s.lambdas:
            self.visit(each)

    def add(self, s, mutation, *edits):
        end = s.head[1] + 1 if s.head else s.end
        line = self.text.count("\n", 0, s.begin) + 1
        self.mutants.append(Mutant(self.path, line, s.function, one_line(self.text[s.begin:end]), mutation, self.word,
                                   list(edits)))

    # ---- kinds of statements ------------------------------------------------------------------------------------

    def break_simple(self, s):
        code = self.code
        text = code[s.begin:s.end]
        if text.startswith("FLATBED_TRY("):
            begin = s.begin + len("FLATBED_TRY(")
            return self.break_result(s, begin, statements.match_close(code, begin - 1))
        if text.startswith("FLATBED_ASSIGN("):
            begin = s.begin + len("FLATBED_ASSIGN(")
            end = statements.match_close(code, begin - 1)
            comma = statements.find_top(code, begin, end, (",",))
            if re.match(r"(?:const\s+)?bool\b", code[begin:comma]):
                self.break_condition(s, comma + 1, end, "true", "false")
            return None
        if match := TYPED.match(text):
            return self.break_typed(s, match.group(1), s.begin + match.end(), s.end - 1)
        if DECLARATION.match(text):
            return None
        self.add(s, "deleted", (s.begin, True, "{{ if (!" + IS + ") {{ "), (s.end, False, " }} }}"))
        ternary = statements.find_top(code, s.begin, s.end, (" ? ",))
        if ternary >= 0 and not re.search(r"[^=!<>]=[^=]", code[s.begin:ternary]):
            self.break_condition(s, s.begin, ternary, "always the first", "always the second")
        return None

    def break_typed(self, s, name, begin, end):
        if name == "Result<void>":
            self.break_result(s, begin, end)
        elif name == "cudaError_t":
            self.add(s, "call deleted", (begin, True, IS + " ? cudaSuccess : ("), (end, False, ")"))
            self.add(s, "error ignored", (begin, True, "::flatbed_mutation::ignored({0}, "), (end, False, ")"))
        else:
            self.break_condition(s, begin, end, "true", "false")

    def break_result(self, s, begin, end):
        self.add(s, "call deleted", (begin, True, IS + " ? " + OK + " : ("), (end, False, ")"))
        self.add(s, "error ignored", (begin, True, "::flatbed_mutation::ignored({0}, "), (end, False, ")"))

    def break_condition(self, s, begin, end, for_true, for_false):
        """Forces a condition both ways, after it has been evaluated."""
        value = self.code[begin:end].strip()
        for name, forced in ((for_true, "true"), (for_false, "false")):
            if name and value != forced:
                self.add(s, name, (begin, True, "::flatbed_mutation::forced({0}, " + forced + ", "), (end, False, ")"))

    def break_return(self, s):
        code = self.code
        begin = s.begin + len("return")
        while code[begin].isspace():
            begin += 1
        end = s.end - 1
        value = code[begin:end]
        if not value:
            return
        is_bool = s.returns in ("bool", "Result<bool>") and value != "complete"
        if s.returns == "" and statements.find_top(code, begin, end, ("||", "&&", "==", "!=")) >= 0:
            is_bool = True
        if is_bool and not NOT_A_CALL.match(value) or value in ("true", "false"):
            self.break_condition(s, begin, end, "true", "false")
        elif s.returns == "Result<void>" and not NOT_A_CALL.match(value):
            self.break_result(s, begin, end)
        elif s.returns == "void":
            self.add(s, "deleted", (begin, True, IS + " ? void() : "))

    def break_if(self, s):
        code = self.code
        begin, end = s.head
        split = statements.find_top(code, begin, end, (";",))
        if split >= 0:
            if match := TYPED.match(code[begin:split]):
                self.break_typed(s, match.group(1), begin + match.end(), split)
            begin = split + 1
            while code[begin].isspace():
                begin += 1
        elif match := CONDITION_DECLARES.match(code[begin:end]):
            return self.add(s, "never", (end, False, "; !" + IS + " && static_cast<bool>(" + match.group(1) + ")"))
        only_an_error = ONLY_AN_ERROR.match(code[s.body[0].begin:])
        return self.break_condition(s, begin, end, "" if only_an_error else "always", "never")

    def break_while(self, s):
        body = s.body[0]
        opening = body.begin + 1 if body.kind == "block" else body.begin
        guard = [] if body.kind == "block" else [(body.begin, True, "{{ "), (body.end, False, " }}")]
        if body.kind == "block" or s.kind != "range":
            self.add(s, "never", *guard, (opening, True, " if (" + IS + ") break; "))
        if s.in_block:
            self.add(s, "once", *guard, (s.begin, True, "[[maybe_unused]] int flatbed_turns_{0} = 0; "),
                     (opening, True, " if (" + IS + " && flatbed_turns_{0}++ > 0) break; "))

    break_for = break_while
    break_range = break_while


# (file, function, what is broken, edits: (a text that stands once in the function, "before" or "after" it, what is
# put there)). For what no rule makes: another order, another argument.
BY_HAND = [
    ("src/load/load_job.cpp", "JobRunner::run_staged", "what its digest does not fit is queued all the same",
     [("return read;", "before", "if (IS) static_cast<void>(deliver(job, *slot, at)); ")]),
    ("src/load/load_job.cpp", "JobRunner::deliver", "the group's job is done before its bytes are queued",
     [("collect_pieces(job, at);", "after", " if (IS) FLATBED_TRY(work_.groups.job_done(job, job.read_nbytes)); "),
      ("return work_.groups.job_done(job, job.read_nbytes);", "before", "if (IS) return {}; ")]),
    ("src/load/load_progress.cpp", "LoadGroups::complete", "ready before its fences are queued",
     [("State& group = groups_[number];\n", "after",
       "if (IS) { const std::lock_guard early(mutex_); group.complete = true; changed_.notify_one(); } ")]),
    ("src/load/load_slots.cpp", "LoadSlots::settle", "only the first device is drained",
     [("all_drained &= drain(device);", "before", "if (IS && device > 1) break; ")]),
    ("cuda/cuda_device.cpp", "CudaDevice::copy", "recorded before the pieces are queued",
     [("for (std::size_t i = 0; i < pieces.size() && queued;", "before", "if (IS) queued = record(slot); "),
      ("if (queued) queued = record(slot);", "before", "if (!IS) ")]),
    ("cuda/cuda_device.cpp", "CudaDevice::done", "the event of a ticket that failed is used again",
     [("handles_->tickets.end(ticket, complete ?", "before",
       "if (IS) handles_->tickets.end(ticket, TicketTable::Reuse::yes); ")]),
    ("cuda/cuda_device.cpp", "CudaDevice::open_streams", "a stream that waits for the legacy stream",
     [("StreamCreateWithFlags(&stream_, ", "after", "IS ? 0U : ")]),
    ("cuda/pinned_memory.cpp", "PinnedMemory::register_segments", "page-locked for one device alone",
     [("api_.HostRegister(memory.data() + locked, nbytes, ", "after", "IS ? 0U : ")]),
    ("cuda/pinned_memory.cpp", "PinnedMemory::allocate", "page-locked for one device alone",
     [("api_.HostAlloc(&allocated, room, ", "after", "IS ? 0U : ")]),
]


def by_hand(path, text):
    for file, function, mutation, places in BY_HAND:
        if file != path:
            continue
        edits = []
        for anchor, side, inserted in places:
            begin = text.index(f" {function}(")
            end = text.index("\n}", begin)
            if text.count(anchor, begin, end) != 1:
                raise SystemExit(f"{path}: {text.count(anchor, begin, end)} places of {function} are {anchor!r}, "
                                 f"wanted 1: adapt BY_HAND in rules.py ({mutation})")
            at = text.index(anchor, begin) + (len(anchor) if side == "after" else 0)
            inserted = inserted.replace("{", "{{").replace("}", "}}").replace("IS", IS)
            edits.append((at, True, inserted))
        line = text.count("\n", 0, edits[0][0]) + 1
        yield Mutant(path, line, function, "", mutation, "by hand", edits)


def find_mutants(path, text, code):
    """The mutants of a file, and a line for each statement that no word matches."""
    finder = Finder(path, text, code)
    return list(by_hand(path, text)) + finder.find(), finder.ignored


def instrument(text, mutants):
    """The text in which mutant k is alive where is(k) says so. Lines keep their numbers."""
    edits = []
    for order, mutant in enumerate(mutants):
        for at, opens, inserted in mutant.edits:
            edits.append((at, opens, order if opens else -order, inserted.format(mutant.number)))
    edits.sort(key=lambda edit: edit[:3])
    out = []
    begin = 0
    for at, _, _, inserted in edits:
        out += [text[begin:at], inserted]
        begin = at
    return "".join(out) + text[begin:]
