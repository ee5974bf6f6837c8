# SPDX-License-Identifier: MIT
"""Runs the checks of rules.py over this tree, and each over a small tree that breaks it.

    COMMA_BUILD=build pytest tests/rules

COMMA_BUILD is a build directory; without it the names of external symbols are not checked."""
import os
import pathlib
import subprocess

import pytest

import rules

ROOT = str(pathlib.Path(__file__).resolve().parents[2])
CC = os.environ.get("CC", "cc").split()[-1]
BUILD = os.environ.get("COMMA_BUILD")
SPDX = "/* SPDX-License-Identifier: MIT */\n"


def none(complaints):
    complaints = list(complaints)
    assert not complaints, "\n" + "\n".join(complaints)


def test_folders_include_only_what_the_table_allows():
    none(rules.check_own_includes(ROOT))


def test_each_library_is_included_by_its_own_file_only():
    none(rules.check_libraries(ROOT))


def test_each_header_compiles_alone():
    none(rules.check_headers_compile_alone(ROOT, CC))


@pytest.mark.skipif(not BUILD, reason="COMMA_BUILD is not set")
def test_each_external_symbol_starts_with_comma():
    assert any(name.endswith(".a") for _, _, names in os.walk(BUILD) for name in names), "nothing is built"
    none(rules.check_symbols(BUILD))


def test_each_file_opens_with_its_licence():
    none(rules.check_first_lines(ROOT))


def test_no_file_is_too_long():
    none(rules.check_lengths(ROOT))


def test_comments_say_why_and_are_closed():
    none(rules.check_comments(ROOT))


def test_no_path_of_somebodys_machine():
    none(rules.check_paths(ROOT))


BREACHES = [
    (rules.check_own_includes, {"engine/base/a.c": '#include "engine/b.h"\n', "engine/b.h": ""}, "engine/base may not"),
    (rules.check_own_includes, {"models/a.c": '#include "engine/b.h"\n', "engine/b.h": ""}, "models may not"),
    (rules.check_own_includes, {"engine/a.c": '#include "api/b.h"\n', "api/b.h": ""}, "engine may not"),
    (rules.check_own_includes, {"api/a.c": '#  include "engine/base/b.h"\n', "engine/base/b.h": ""}, "api may not"),
    (rules.check_own_includes, {"server/a.c": '#include "engine/b.h"\n', "engine/b.h": ""}, "server may not"),
    (rules.check_own_includes, {"engine/a.c": '#include "b.h"\n', "engine/b.h": ""}, "is no path from the root"),
    (rules.check_own_includes, {"elsewhere/a.c": ""}, "no line in MAY_INCLUDE"),
    (rules.check_libraries, {"server/main.c": "#include <jansson.h>\n"}, "<jansson.h> is only for models/*, api/*"),
    (rules.check_libraries, {"engine/block.c": "#include <cblas.h>\n"}, "only for engine/gemm/openblas.c"),
    (rules.check_libraries, {"engine/block.c": "\n#include <oneapi/dnnl/dnnl.h>\n"}, "block.c:2: "),
    (rules.check_libraries, {"engine/tokenizer.c": "#include <utf8proc.h>\n"}, "only for engine/unicode.c"),
    (rules.check_libraries, {"engine/vision.c": "#include <immintrin.h>\n"}, "only for engine/kernels/*"),
    (rules.check_libraries, {"api/routes.c": "#include <microhttpd.h>\n"}, "only for server/http.c"),
    (rules.check_libraries, {"models/a.c": "#include <left_pad.h>\n"}, "does not know"),
    (lambda root: rules.check_headers_compile_alone(root, CC), {"engine/a.h": "void comma_a(size_t n);\n"}, "alone"),
    (rules.check_first_lines, {"engine/a.c": "/* a.c */\n"}, "SPDX"),
    (rules.check_first_lines, {"check.sh": "#!/bin/sh\n# check.sh\n"}, "SPDX"),
    (rules.check_lengths, {"engine/a.c": "\n" * 801}, "801 lines"),
    (rules.check_comments, {"engine/a.c": 'const char *u = "http://x"; // why\n'}, "a.c:1: a //"),
    (rules.check_comments, {"engine/a.c": "int a;\n/* TO" + "DO: b */\n"}, "a.c:2: a comment that puts"),
    (rules.check_paths, {"README.md": "see /ho" + "me/ada/comma\n"}, "README.md:1: a path"),
]


@pytest.mark.parametrize("check, tree, words", BREACHES)
def test_a_breach_is_seen(check, tree, words, tmp_path):
    for name, text in tree.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    complaints = list(check(str(tmp_path)))
    assert len(complaints) == 1 and words in complaints[0]


def test_a_path_of_this_tree_is_seen(tmp_path):
    (tmp_path / "a.py").write_text("x = '%s/a'\n" % tmp_path)
    assert len(list(rules.check_paths(str(tmp_path)))) == 1


def test_a_foreign_symbol_is_seen(tmp_path):
    (tmp_path / "a.c").write_text("int comma_a; int b; static int c; int *comma_d(void) { return &c; }\n")
    subprocess.run([CC, "-c", "a.c"], cwd=tmp_path, check=True)
    subprocess.run(["ar", "rc", "liba.a", "a.o"], cwd=tmp_path, check=True)
    assert list(rules.check_symbols(str(tmp_path))) == ["liba.a: the external symbol b does not start with comma_"]


def test_what_is_fine_is_left_alone(tmp_path):
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine/a.h").write_text(SPDX + '#include <stddef.h>\n/* http://x */\nvoid comma_a(size_t n);\n')
    (tmp_path / "engine/a.c").write_text(SPDX + '#include "engine/a.h"\n/* #include "api/b.h" */\nchar *s = "//";\n')
    for check in (rules.check_own_includes, rules.check_libraries, rules.check_first_lines, rules.check_lengths,
                  rules.check_comments, rules.check_paths):
        none(check(str(tmp_path)))
    none(rules.check_headers_compile_alone(str(tmp_path), CC))
