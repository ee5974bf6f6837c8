# SPDX-License-Identifier: MIT
"""The rules of the house that a program can check. Each check takes the root of a tree and yields complaints.

STYLE of this tree: who may include whom and which library, headers that compile alone, names of external symbols,
the first line and the length of a file, comments, paths of somebody's machine."""
import fnmatch
import os
import re
import subprocess

MAX_LINES = 800

# What a folder may include of ours; the longest folder that fits counts.
MAY_INCLUDE = {
    "engine/base": ["engine/base/*"],
    "models": ["models/*", "engine/base/*"],
    "engine": ["engine/*", "models/*"],
    "api": ["api/*", "engine/comma.h"],
    "server": ["server/*", "api/*", "engine/comma.h", "engine/base/*"],
    "tests": ["*"],
}

# Single lines that the table forbids, each with its reason. Nothing else in these files is excused by it.
EXCUSED = {
    ("api/pool.c", "engine/base/checked.h"),  # sizes from outside are multiplied checked; the header is inline code
    ("api/request.c", "engine/base/checked.h"),  # the same
    ("api/response.c", "engine/base/half.h"),  # the bits of a float, for base64; inline code as well
}

# A library's header, and the only files that may include it: one file a library, so that it can be replaced.
LIBRARIES = {
    "jansson.h": ["models/*", "api/*"],
    "zip.h": ["models/torch_zip.c"],
    "zlib.h": ["models/gzip.c"],
    "cblas.h": ["engine/gemm/openblas.c"],
    "dnnl.h": ["engine/gemm/onednn_product.c"],
    "oneapi/dnnl/*.h": ["engine/gemm/onednn_product.c"],
    "stb_image.h": ["engine/image_png.c"],
    "jpeglib.h": ["engine/image_jpeg.c"],
    "jerror.h": ["engine/image_jpeg.c"],
    "utf8proc.h": ["engine/unicode.c"],
    "xxhash.h": ["engine/label_store.c"],
    "microhttpd.h": ["server/http.c"],
    "seccomp.h": ["server/sandbox_jail.c"],
}

# What belongs to one processor or one compiler, and who deals with it.
MACHINE = {
    "immintrin.h": ["engine/kernels/*", "engine/peak.c"],
    "arm_neon.h": ["engine/kernels/*", "engine/peak.c"],
    "cpuid.h": ["engine/base/cpu.c"],
    "sanitizer/asan_interface.h": ["engine/base/arena.c"],
}

# The C library's; anything else in angle brackets is a library that needs a line above.
SYSTEM = """assert complex ctype errno fenv float inttypes limits locale malloc math setjmp signal stdalign stdarg
    stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string strings threads time uchar wchar wctype
    arpa/inet dirent dlfcn fcntl ftw getopt glob libgen netdb netinet/in netinet/tcp poll pthread pwd regex sched semaphore
    spawn syslog termios unistd sys/epoll sys/eventfd sys/file sys/ioctl sys/mman sys/prctl sys/random sys/resource
    sys/select sys/signalfd sys/socket sys/stat sys/statvfs sys/sysinfo sys/syscall sys/time sys/timerfd sys/types
    sys/uio sys/un sys/utsname sys/wait linux/*""".split()

# Made by meson beside the object files.
GENERATED = ["*_inputs.h"]

# As they came: golden data, inputs of fuzz targets, the scripts that trained the emoji model.
FOREIGN = ["tests/golden/data", "tests/fuzz/corpus", "models/emoji"]

TOKENS = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|/\*.*?\*/|//[^\n]*', re.S)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)
SOMEBODYS_PATH = re.compile(r"(?<![\w.])/(?:home|root|Users|work)/[a-z]")


def files(root, *patterns):
    """Paths below root, with forward slashes, that fit a pattern; neither foreign nor built."""
    for folder, folders, names in os.walk(root):
        here = os.path.relpath(folder, root).replace(os.sep, "/")
        here = "" if here == "." else here + "/"
        folders[:] = sorted(f for f in folders if here + f not in FOREIGN and not f.startswith((".", "build", "__"))
                            and not os.path.exists(os.path.join(folder, f, "meson-private")))
        for name in sorted(names):
            if any(fnmatch.fnmatch(name, p) for p in patterns):
                yield here + name


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as f:
        return f.read()


def fits(name, patterns):
    return any(fnmatch.fnmatch(name, p) for p in patterns)


def without_comments(text):
    """Comments blanked, lines kept."""
    return TOKENS.sub(lambda m: m[0] if m[0][0] != "/" else re.sub(r"[^\n]", " ", m[0]), text)


def includes(root, path):
    """(line, "<" or quote, name) of each include that is not commented out."""
    text = without_comments(read(root, path))
    for m in INCLUDE.finditer(text):
        yield text.count("\n", 0, m.start()) + 1, m[1], m[2]


def check_own_includes(root):
    for path in files(root, "*.c", "*.h"):
        folder = max((f for f in MAY_INCLUDE if path.startswith(f + "/")), key=len, default=None)
        if not folder:
            yield "%s: in a folder that has no line in MAY_INCLUDE" % path
            continue
        for line, kind, name in includes(root, path):
            if kind == "<" or fits(name, GENERATED) or (path, name) in EXCUSED:
                continue
            if not os.path.exists(os.path.join(root, name)):
                yield '%s:%d: "%s" is no path from the root' % (path, line, name)
            elif not fits(name, MAY_INCLUDE[folder]):
                yield '%s:%d: code in %s may not include "%s"' % (path, line, folder, name)


def check_libraries(root):
    known = dict(LIBRARIES, **MACHINE)
    for path in files(root, "*.c", "*.h"):
        if path.startswith("tests/"):
            continue
        for line, kind, name in includes(root, path):
            if kind != "<" or fits(name, [s + ".h" for s in SYSTEM]):
                continue
            who = [w for library, w in known.items() if fnmatch.fnmatch(name, library)]
            if not who:
                yield "%s:%d: <%s> is a library that tests/rules/rules.py does not know" % (path, line, name)
            elif not fits(path, who[0]):
                yield "%s:%d: <%s> is only for %s" % (path, line, name, ", ".join(who[0]))


def check_headers_compile_alone(root, cc):
    for path in files(root, "*.h"):
        command = [cc, "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-I" + root, "-fsyntax-only", "-x",
                   "c", "-"]
        done = subprocess.run(command, input='#include "%s"\n' % path, text=True,
                              stderr=subprocess.PIPE, check=False)
        if done.returncode != 0:
            yield "%s does not compile alone: %s" % (path, done.stderr.strip().split("\n")[0])


def check_symbols(build):
    """External symbols of every static library below build, but those of tests."""
    for folder, folders, names in os.walk(build):
        if folder == build:
            folders[:] = [f for f in folders if f != "tests"]
        for name in sorted(n for n in names if n.endswith(".a")):
            path = os.path.join(folder, name)
            listed = subprocess.run(["nm", "--extern-only", "--defined-only", "--format=posix", path], text=True,
                                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
            for line in listed.splitlines():
                symbol = line.split(" ")[0]
                if line.endswith(":") or symbol.startswith("__odr_asan"):
                    continue
                if not symbol.startswith("comma_"):
                    yield "%s: the external symbol %s does not start with comma_" % (name, symbol)


def check_first_lines(root):
    for path in files(root, "*.c", "*.h", "*.inc", "*.py", "*.sh"):
        lines = read(root, path).split("\n")
        if lines[0].startswith("#!"):
            lines.pop(0)
        if not lines or lines[0] not in ("/* SPDX-License-Identifier: MIT */", "# SPDX-License-Identifier: MIT"):
            yield "%s: the first line is not its SPDX line" % path


def check_lengths(root):
    for path in files(root, "*.c", "*.h", "*.inc", "*.py", "*.sh"):
        n = read(root, path).count("\n")
        if n > MAX_LINES:
            yield "%s: %d lines, at most %d" % (path, n, MAX_LINES)


def check_comments(root):
    marks = re.compile(r"\b(?:%s)\b" % "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3]))
    for path in files(root, "*.c", "*.h", "*.inc"):
        text = read(root, path)
        for m in TOKENS.finditer(text):
            line = text.count("\n", 0, m.start()) + 1
            if m[0].startswith("//"):
                yield "%s:%d: a // comment" % (path, line)
            elif m[0].startswith("/*") and marks.search(m[0]):
                yield "%s:%d: a comment that puts something off" % (path, line)


def check_paths(root):
    patterns = ["*.c", "*.h", "*.inc", "*.py", "*.sh", "*.md", "*.build", "*.yaml", "*.yml", "*.txt", "check",
                "Dockerfile*"]
    for path in files(root, *patterns):
        text = read(root, path)
        m = SOMEBODYS_PATH.search(text)
        if m or os.path.abspath(root) in text:
            line = text.count("\n", 0, m.start() if m else text.index(os.path.abspath(root))) + 1
            yield "%s:%d: a path of somebody's machine" % (path, line)
