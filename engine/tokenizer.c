/* SPDX-License-Identifier: MIT */
/* tokenizer.c - see tokenizer.h. Cleans a text, splits it into pieces and encodes each: SPEC 7.1.
 *
 * The pattern that splits is written out, since a regular expression library would have to know the same letters as
 * Python's; unicode.h says which tables are equal. */
#include "engine/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"
#include "engine/bpe.h"
#include "engine/clean_text.h"

#define N_SPECIAL 2 /* SOS and EOT, the last two of the vocabulary */
#define MIN_VOCAB (COMMA_BPE_BYTE_IDS + N_SPECIAL)
#define MAX_VOCAB (1 << 24)
#define LONG_S    0x17F
#define IOTA_MARK 0x345 /* U+0345 COMBINING GREEK YPOGEGRAMMENI */

struct comma_tokenizer {
    struct comma_bpe *bpe;
    int32_t sos, eot;
};

bool comma_tokenizer_create(struct comma_bytes merges, size_t vocab_size, struct comma_tokenizer **out,
                            struct comma_error *err)
{
    struct comma_tokenizer *t;

    if (vocab_size < MIN_VOCAB || vocab_size > MAX_VOCAB)
        return comma_fail(err, COMMA_E_MODEL, "vocabulary of %zu tokens: %d (bytes, SOS and EOT) to %d are allowed",
                          vocab_size, MIN_VOCAB, MAX_VOCAB);
    t = calloc(1, sizeof(*t));
    if (!t)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for a tokenizer");
    if (!comma_bpe_create(merges, vocab_size - MIN_VOCAB, &t->bpe, err)) {
        free(t);
        return false;
    }
    t->sos = (int32_t)(vocab_size - 2);
    t->eot = (int32_t)(vocab_size - 1);
    *out = t;
    return true;
}

void comma_tokenizer_destroy(struct comma_tokenizer *t)
{
    if (!t)
        return;
    comma_bpe_destroy(t->bpe);
    free(t);
}

int32_t comma_tokenizer_sos(const struct comma_tokenizer *t)
{
    return t->sos;
}

int32_t comma_tokenizer_eot(const struct comma_tokenizer *t)
{
    return t->eot;
}

/* The size of word, ASCII, if text begins with it, else 0. The text is in lower case already, and the pattern does not
 * care about case, by which a long s is an s. */
static size_t begins_with(const uint32_t *text, size_t n, const char *word)
{
    size_t i;

    for (i = 0; word[i]; i++)
        if (i >= n || (text[i] == LONG_S ? 's' : text[i]) != (unsigned char)word[i])
            return 0;
    return i;
}

/* True for what no alternative of the pattern matches: white space, and the one mark whose capital is a letter.
 * Python's regex module, told not to care about case, takes it neither for a letter nor for something else, so CLIP
 * drops it. */
static bool is_between_pieces(uint32_t c)
{
    return comma_is_space(c) || c == IOTA_MARK;
}

/* The size of the piece at the start of text, where one starts: the first alternative of SPEC 7.1 step 2 that fits. */
static size_t piece_size(const uint32_t *text, size_t n)
{
    static const char *const words[] = {
        "<|startoftext|>", "<|endoftext|>", "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"
    };
    size_t size = 1;

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        size = begins_with(text, n, words[i]);
        if (size > 0)
            return size;
    }
    if (comma_is_letter(text[0])) {
        for (size = 1; size < n && comma_is_letter(text[size]); size++)
            ;
        return size;
    }
    if (comma_is_number(text[0]))
        return 1;
    for (size = 1; size < n; size++)
        if (is_between_pieces(text[size]) || comma_is_letter(text[size]) || comma_is_number(text[size]))
            break;
    return size;
}

/* Ids of the text, without SOS and EOT. word, scratch and ids have room for all its bytes. */
static size_t encode_pieces(const struct comma_tokenizer *t, const struct comma_codepoints *text, unsigned char *word,
                            void *scratch, int32_t *ids)
{
    size_t n_ids = 0;

    for (size_t i = 0; i < text->n;) {
        struct comma_bytes bytes = { word, 0 };
        size_t size;

        if (is_between_pieces(text->data[i])) {
            i++;
            continue;
        }
        size = piece_size(text->data + i, text->n - i);
        for (size_t k = 0; k < size; k++)
            bytes.size += comma_utf8_encode(text->data[i + k], word + bytes.size);
        if (bytes.size == 15 && memcmp(word, "<|startoftext|>", 15) == 0)
            ids[n_ids++] = t->sos;
        else if (bytes.size == 13 && memcmp(word, "<|endoftext|>", 13) == 0)
            ids[n_ids++] = t->eot;
        else
            n_ids += comma_bpe_encode(t->bpe, bytes, scratch, ids + n_ids);
        i += size;
    }
    return n_ids;
}

bool comma_tokenizer_encode(const struct comma_tokenizer *t, struct comma_text text, int32_t *ids, size_t max_ids,
                            size_t *n_ids, struct comma_error *err)
{
    struct comma_codepoints clean = { 0 };
    unsigned char *word = NULL;
    int32_t *all = NULL;
    void *scratch = NULL;
    size_t n_bytes = 0, scratch_bytes, n;
    bool ok = false;

    if (text.size > COMMA_MAX_TEXT_BYTES) {
        comma_fail(err, COMMA_E_LIMIT, "the text has %zu bytes, at most %d are allowed", text.size,
                   COMMA_MAX_TEXT_BYTES);
        goto out;
    }
    if (!comma_utf8_valid(text.data, text.size)) {
        comma_fail(err, COMMA_E_INPUT, "the text is not valid UTF-8");
        goto out;
    }
    if (!comma_clean_text(text, &clean, err))
        goto out;
    for (size_t i = 0; i < clean.n; i++)
        n_bytes += comma_utf8_size(clean.data[i]);
    if (!comma_bpe_scratch_bytes(n_bytes, &scratch_bytes))
        goto nomem;
    word = malloc(n_bytes + 1);
    scratch = malloc(scratch_bytes + 1);
    all = calloc(n_bytes + 1, sizeof(*all));
    if (!word || !scratch || !all)
        goto nomem;
    n = encode_pieces(t, &clean, word, scratch, all);
    *n_ids = n + N_SPECIAL;
    if (n + N_SPECIAL > max_ids) {
        comma_fail(err, COMMA_E_INPUT, "the text has %zu tokens with start and end, at most %zu are allowed",
                   n + N_SPECIAL, max_ids);
        goto out;
    }
    ids[0] = t->sos;
    memcpy(ids + 1, all, n * sizeof(*all));
    ids[n + 1] = t->eot;
    ok = true;
    goto out;
nomem:
    comma_fail(err, COMMA_E_NOMEM, "out of memory for a text of %zu bytes", text.size);
out:
    comma_codepoints_finish(&clean);
    free(word);
    free(scratch);
    free(all);
    return ok;
}
