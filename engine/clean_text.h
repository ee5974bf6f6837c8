/* SPDX-License-Identifier: MIT */
/* clean_text.h - text as CLIP's own code cleans it before splitting (SPEC 7.1 step 1, 7.2, 7.3): ftfy's certain
 * repairs, HTML references, white space, lower case. */
#ifndef COMMA_ENGINE_CLEAN_TEXT_H
#define COMMA_ENGINE_CLEAN_TEXT_H

#include "engine/base/error.h"
#include "engine/unicode.h"

/* Appends the cleaned text to out, which the caller finishes also after a failure: words in lower case with one space
 * between them and none at the ends. text must be valid UTF-8. The time is O(n log n) whatever the text.
 *
 * Of ftfy's repairs (b), of text decoded with a wrong encoding, and (c), of C1 controls, are left out: they guess.
 * Fails with COMMA_E_NOMEM only. Threads may call it at once. */
COMMA_MUST_CHECK
bool comma_clean_text(struct comma_text text, struct comma_codepoints *out, struct comma_error *err);

#endif
