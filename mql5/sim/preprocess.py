"""MQL5 to C++, line by line. What is outside of the supported part of MQL5, or is C++ that is no MQL5, is refused."""
import difflib, re, sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TYPES = "bool uchar char ushort short uint int ulong long float double string color datetime void".split()
KEYWORDS = ("if else for while do switch case default break continue return const static input group struct class enum "
            "public private protected virtual override this true false operator sizeof").split()
NO_WORDS = ("nullptr constexpr decltype noexcept typename static_cast reinterpret_cast const_cast unsigned signed "
            "size_t wchar_t goto try catch throw using friend mutable explicit asm register volatile").split()
# C++ that is no MQL5, or MQL5 that the simulator does not know
REFUSED = [
    (r"\bauto\b", "`auto` is no MQL5: name the type"),
    (r"\bstd\s*::", "`std::` is no MQL5"),
    (r"\[[&=]?\]\s*\(", "a lambda is no MQL5"),
    (r"->", "`->` is no MQL5: members are reached by `.`"),
    (rf"\b(?:{'|'.join(NO_WORDS)}|u?int\d+_t)\b", "this word is no MQL5"),
    (r"\blong\s+long\b", "`long long` is no MQL5: `long` has 64 bits"),
    (r"\bfor\s*\([^;()]*[^:]:[^:][^;]*\)", "a loop over a range is no MQL5"),
    (r"\b(?:new|delete)\b|\w\s*\*\s*\w+\s*[;=]\s*(?=new|NULL)", "pointers are outside of the supported part"),
    (r"^\s*(?:const\s+)?[A-Za-z_]\w*\s*&\s*\w+\s*=", "a local reference is no MQL5"),
    (r"\btemplate\b|\bnamespace\b|\bunion\b", "outside of the supported part"),
    (r"\bD'|\bC'", "date and colour literals are outside of the supported part"),
    (r"^\s*#\s*(?!property\b|include\b|define\b)\w+", "this directive is outside of the supported part"),
]


class Refused(Exception):
    "What is wrong, and where."
    def __init__(self, path, line, reason): super().__init__(f"{Path(path).name}:{line}: {reason}")


def api():
    "Names that mql5.hpp offers to the EA: what it may call, and every other one."
    text = (HERE/"mql5.hpp").read_text()
    parts = re.findall(r"//: API ([^\n]*)\n(.*?)(?=//: )", text, re.S)
    calls, names = set(), set()
    for title, body in parts:
        body = re.sub(r"namespace sim \{.*?\n\}", "", body, flags=re.S)
        names |= set(re.findall(r"\b[A-Za-z_]\w*\b", body))
        if title not in ("types", "constants", "variables"):
            calls |= set(re.findall(r"^\s*(?:inline |template <[^>]*> )*[\w:<>]+[ &]+(\w+)\(", body, re.M))
    return calls, names


CALLS, NAMES = api()
API_TYPES = set(re.findall(r"\b(?:struct|class|enum) (\w+) {", (HERE/"mql5.hpp").read_text())) - {"string"}


def blank(text):
    "The text without what stands in comments and literals, every character in its place."
    def mask(m):
        return (re.sub(r"[^\n]", " ", m[0]) if m[0][0] == "/"
                else m[0][0] + re.sub(r"[^\n]", " ", m[0][1:-1]) + m[0][-1])
    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', mask, text, flags=re.S)


def declared(code):
    "Every name that the file itself brings: types, functions, variables, parameters, constants."
    types = set(re.findall(r"\b(?:struct|class|enum)\s+(\w+)", code))
    known = "|".join(sorted({*TYPES, *types, *API_TYPES}, key=len, reverse=True))
    names = set(re.findall(rf"\b(?:{known})\s*&?\s*(?:\w+::)?([A-Za-z_]\w*)", code))
    names |= set(re.findall(r"^\s*#define\s+(\w+)", code, re.M))
    for body in re.findall(r"\benum\s+\w+\s*\{([^}]*)\}", code): names |= set(re.findall(r"\b([A-Za-z_]\w*)\b", body))
    # further names of one declaration: after a comma, or after an array's brackets
    for line in re.findall(rf"^\s*(?:static\s+|const\s+)*(?:{known})\s+([A-Za-z_][^;(){{}}]*(?:\([^;]*)?);",
                           code, re.M):
        names |= set(re.findall(r"(?:^|,)\s*([A-Za-z_]\w*)", line))
    return types, names


def functions(code):
    "The global functions: line of the definition and prototype."
    return [(code.count("\n", 0, m.start()) + 1, m[1]) for m in
            re.finditer(r"^((?:const\s+)?[A-Za-z_]\w*\s+(?!operator)[A-Za-z_]\w*\s*\([^;{}]*\))\s*\n?\s*\{",
                        code, re.M)]


def by_reference(code, types):
    "A pattern of parameters that MQL5 takes by reference only, but that are given by value."
    structs = "|".join({*types, "MqlRates", "MqlTick", "MqlDateTime", "CTrade"}
                       - set(re.findall(r"\benum\s+(\w+)", code)))
    return re.compile(rf"[(,]\s*(?:const\s+)?(?:{structs})\s+\w+\s*[,)]")


def foreign(line, raw, rules):
    "Why a line is refused as a whole; None: it is not."
    for pattern, reason in rules:
        if re.search(pattern, line): return reason
    include = re.match(r"\s*#include\s+(.*)", raw)
    if include and include[1].strip() != r"<Trade\Trade.mqh>": return "only Trade\\Trade.mqh may be included"
    escapes = set(re.findall(r"\\(.)", " ".join(re.findall(r'"(?:\\.|[^"\\])*"', raw))))
    if escapes - set("nrt\\'\"") and not line.lstrip().startswith("#"):
        return "this escape is outside of the supported part"


def unknown(line, known, names):
    """The first name that neither MQL5's supported part nor the file has, with the nearest that there is;
    None: all are known."""
    for name, called in re.findall(r"\b([A-Za-z_]\w*)(\s*\()?", line):
        if name in known or name in CALLS or not called and name in names: continue
        near = difflib.get_close_matches(name, sorted(known | CALLS), 1, .6)
        return f"{name} is no name of the supported part" + (f"; did you mean {near[0]}?" if near else "")


def check(path, text):
    "Raises `Refused` for the first line that is outside of the supported part."
    code = blank(text)
    types, own = declared(code)
    known = {*KEYWORDS, *TYPES, *types, *own, "NULL"}
    inputs = "|".join(re.findall(r"^\s*input\s+(?!group)\w+\s+(\w+)", code, re.M)) or "(?!)"
    rules = [*REFUSED, (by_reference(code, types), "structures and classes are passed by reference only"),
             (rf"\b(?:{'|'.join({*TYPES, *types, *API_TYPES})})\s*&&", "a reference to an rvalue is no MQL5"),
             (r"[(,]\s*(?:const\s+)?\w+\s+\w+\[\]\s*[,)]", "arrays are passed by reference only"),
             (rf"^(?!\s*input\b).*(?<![\w.])(?:{inputs})\s*(?:[-+*/%]?=(?!=)|\+\+|--)", "an input is a constant")]
    for n, (line, raw) in enumerate(zip(code.splitlines(), text.splitlines()), 1):
        reason = foreign(line, raw, rules)
        if not reason and not line.lstrip().startswith("#"): reason = unknown(line, known, NAMES)
        if reason: raise Refused(path, n, f"{reason}: {raw.strip()}")


def literals(line):
    "String literals as MQL5's strings; a character is a number of 16 bits."
    out = re.sub(r'"(?:\\.|[^"\\])*"', lambda m: f"S({m[0]})", line)
    return re.sub(r"'(?:\\.|[^'\\])'", lambda m: f"(ushort){m[0]}", out)


def arrays(line):
    line = re.sub(r"\b(const\s+)?(\w+)\s*&\s*(\w+)\[\]", r"\1Array<\2> &\3", line)
    return re.sub(r"^(\s*)(\w+)(\s+)(\w+)\[\](\s*[;=])", r"\1Array<\2>\3\4\5", line)


def translate(path):
    "The C++ of an .mq5 file, as many lines as it has, and what the driver needs after them."
    text = Path(path).read_text(encoding="utf-8")
    check(path, text)
    code, out, inputs = blank(text), [], []
    prototypes = functions(code)
    first = min(n for n, _ in prototypes)
    for n, line in enumerate(text.splitlines(), 1):
        bare = line[:len(blank(line).rstrip())] if "//" in line else line
        if n == first:
            out.append(" ".join(f"{arrays(p)};" for _, p in prototypes) + "\n"
                       + f'#line {n} "{Path(path).name}"')
        if re.match(r"\s*#(property|include)|\s*input\s+group", bare):
            out.append("")
            continue
        if m := re.match(r"\s*input\s+(\w+)\s+(\w+)", bare):
            inputs.append(m[2])
            bare = bare.replace("input ", "", 1)
        out.append(arrays(bare) if bare.lstrip().startswith("#") and '"' not in bare else literals(arrays(bare)))
    setters = "".join(f'  if(name == "{i}") {{ set({i}, value); return true; }}\n' for i in inputs)
    tail = f"bool sim::set_input(const std::string &name, const std::string &value) {{\n{setters}  return false;\n}}\n"
    return f'#include "mql5.hpp"\n#line 1 "{Path(path).name}"\n' + "\n".join(out) + "\n" + tail


if __name__ == "__main__":
    try: print(translate(sys.argv[1]))
    except Refused as e: sys.exit(str(e))
