"""An .mq5 file as a program that runs it: preprocessed, compiled with sanitizers, kept by the hash of its sources."""
import hashlib, subprocess, sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from preprocess import translate

TERMINAL = [HERE/"mql5.hpp", HERE/"sim.cpp"]
SANITIZE = ["-std=c++17", "-Og", "-g1", "-fno-omit-frame-pointer",
            "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
TLS = ["-lssl", "-lcrypto"] if Path("/usr/include/openssl/ssl.h").exists() else []


def _kept(folder, name, parts, make):
    "The file by the hash of what it is made of; `make(path)` where there is none."
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    path = Path(folder)/f"{name}-{key}"
    if not path.exists():
        new = path.with_suffix(".new")
        make(new)
        new.replace(path)
    return path


def _compile(args, warnings=()):
    r = subprocess.run(["g++", *SANITIZE, *warnings, *map(str, args)], capture_output=True, text=True)
    if r.returncode: raise RuntimeError(r.stderr)


def build(mq5, folder):
    "Path of the program; raises `Refused` for what is no supported MQL5, `RuntimeError` with what the compiler says."
    shim, flags = [p.read_bytes() for p in TERMINAL], " ".join([*SANITIZE, *TLS]).encode()
    code = translate(mq5)
    def compile_terminal(new): _compile(["-c", "-x", "c++", HERE/"sim.cpp", "-o", new], ["-Wall", "-Wextra"])
    terminal = _kept(folder, "terminal.o", [*shim, flags], compile_terminal)
    def link(new):
        source = new.with_suffix(".cpp")
        source.write_text(code)
        o = new.with_suffix(".o")
        _compile(["-I", HERE, "-c", source, "-o", o], ["-Wall", "-Wextra", "-Werror"])
        _compile([o, "-x", "none", terminal, *TLS, "-o", new])
        source.unlink()
        o.unlink()
    return _kept(folder, Path(mq5).stem, [*shim, flags, code.encode()], link)
