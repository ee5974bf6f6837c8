/* SPDX-License-Identifier: MIT */
/* merges.c - see merges.h. A list is text: a header line, then "left right" lines, the most used pair first. */
#include "models/merges.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/gzip.h"
#include "models/vocab.h"

#define MAX_LIST_BYTES ((size_t)64 << 20) /* CLIP's has 3 MB */
#define HEADER         "#version: 0.2\n"
#define WORD_END       "</w>"

/* ---- the list ---- */

/* The next line without its end, at most up to end; false behind the last. */
static bool next_line(const char **at, const char *end, struct comma_text *line)
{
    const char *newline;

    if (*at >= end)
        return false;
    newline = memchr(*at, '\n', (size_t)(end - *at));
    line->data = *at;
    line->size = (size_t)((newline ? newline : end) - *at);
    *at = newline ? newline + 1 : end;
    if (line->size > 0 && line->data[line->size - 1] == '\r')
        line->size--;
    return true;
}

static bool is_pair(struct comma_text line)
{
    const char *blank = memchr(line.data, ' ', line.size);

    return blank && blank > line.data && blank + 1 < line.data + line.size &&
           !memchr(blank + 1, ' ', line.size - (size_t)(blank + 1 - line.data)) &&
           !memchr(line.data, '\0', line.size) && comma_utf8_valid(line.data, line.size);
}

/* Copies header and n merges to out, which has room for all of list and the header. Returns its end, NULL on error. */
static char *copy_merges(struct comma_bytes list, const char *name, size_t n, char *out, struct comma_error *err)
{
    const char *at = (const char *)list.data, *end = at + list.size;
    struct comma_text line = { 0 };

    if (!next_line(&at, end, &line) || !memmem(line.data, line.size, "#version", 8)) {
        comma_fail(err, COMMA_E_MODEL,
                   "%s: the first line is not the \"#version\" header of a list of merges; CLIP's is "
                   "bpe_simple_vocab_16e6.txt.gz, or merges.txt of a Hugging Face model",
                   name);
        return NULL;
    }
    memcpy(out, HEADER, sizeof(HEADER) - 1);
    out += sizeof(HEADER) - 1;
    for (size_t i = 0; i < n; i++) {
        if (!next_line(&at, end, &line)) {
            comma_fail(err, COMMA_E_MODEL, "%s: %zu merges, but the model's vocabulary takes %zu", name, i, n);
            return NULL;
        }
        if (!is_pair(line)) {
            comma_fail(err, COMMA_E_MODEL, "%s: line %zu is not two symbols with a blank between them", name, i + 2);
            return NULL;
        }
        memcpy(out, line.data, line.size);
        out += line.size;
        *out++ = '\n';
    }
    return out;
}

bool comma_merges_cut(struct comma_bytes list, const char *name, size_t vocab_size, struct comma_model_file *out,
                      struct comma_error *err)
{
    struct comma_model_file file = { .path = strdup(name), .memory = malloc(list.size + sizeof(HEADER) + 1) };
    char *end = NULL;

    if (!file.path || !file.memory)
        comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", name);
    else if (vocab_size < COMMA_N_BASE_IDS)
        comma_fail(err, COMMA_E_MODEL,
                   "%s: the token embedding has %zu rows, too few for CLIP's tokenizer, which has %d "
                   "tokens without any merge",
                   name, vocab_size, COMMA_N_BASE_IDS);
    else
        end = copy_merges(list, name, vocab_size - COMMA_N_BASE_IDS, file.memory, err);
    if (!end) {
        comma_model_file_close(&file);
        return false;
    }
    file.bytes = (struct comma_bytes){ file.memory, (size_t)(end - (char *)file.memory) };
    *out = file;
    return true;
}

bool comma_merges_load(const char *path, size_t vocab_size, struct comma_model_file *out, struct comma_error *err)
{
    struct comma_map map = { 0 };
    struct comma_bytes list;
    unsigned char *unpacked = NULL;
    bool ok = false;

    if (!comma_map_open(&map, path, err))
        return false;
    list = (struct comma_bytes){ map.data ? map.data : (const unsigned char *)"", map.size };
    if (comma_gzip_detect(list)) {
        if (!comma_gzip_unpack(list, path, MAX_LIST_BYTES, &unpacked, &list.size, err))
            goto out;
        list.data = unpacked;
    }
    if (list.size > MAX_LIST_BYTES)
        comma_fail(err, COMMA_E_MODEL, "%s: %zu bytes are no list of merges; at most %zu are read", path, list.size,
                   MAX_LIST_BYTES);
    else
        ok = comma_merges_cut(list, path, vocab_size, out, err);
out:
    free(unpacked);
    comma_map_close(&map);
    return ok;
}

/* ---- spellings ---- */

/* Code points of the characters that stand for bytes, in the order of their ids: the printable ones are themselves, the
 * others U+0100 and up. value: the byte. */
static void byte_characters(uint32_t points[256], unsigned char values[256])
{
    static const unsigned ranges[][2] = { { 33, 126 }, { 161, 172 }, { 174, 255 } };
    size_t n = 0;
    bool printable[256] = { false };

    for (size_t r = 0; r < sizeof(ranges) / sizeof(*ranges); r++)
        for (unsigned b = ranges[r][0]; b <= ranges[r][1]; b++) {
            printable[b] = true;
            values[n] = (unsigned char)b;
            points[n++] = b;
        }
    for (unsigned b = 0, k = 0; b < 256; b++)
        if (!printable[b]) {
            values[n] = (unsigned char)b;
            points[n++] = 0x100 + k++;
        }
}

static char *put_point(char *out, uint32_t point)
{
    if (point < 0x80) {
        *out++ = (char)point;
    } else { /* below 0x800 all of them */
        *out++ = (char)(0xC0 | point >> 6);
        *out++ = (char)(0x80 | (point & 0x3F));
    }
    return out;
}

bool comma_spellings_make(struct comma_bytes merges, size_t vocab_size, struct comma_spellings *out,
                          struct comma_error *err)
{
    /* A merge's line is one byte longer than its token with the NUL; bytes and the two marks take 4,096 at most. */
    struct comma_spellings s = { .text = malloc(merges.size + 4096),
                                 .at = calloc(vocab_size, sizeof(*s.at)),
                                 .n = vocab_size };
    const char *at = (const char *)merges.data, *end = at + merges.size;
    struct comma_text line;
    uint32_t points[256];
    unsigned char values[256];
    char *p = s.text;

    if (!s.text || !s.at) {
        comma_spellings_finish(&s);
        return comma_fail(err, COMMA_E_NOMEM, "out of memory for %zu tokens", vocab_size);
    }
    byte_characters(points, values);
    for (size_t id = 0; id < 512; id++) {
        s.at[id] = (size_t)(p - s.text);
        p = put_point(p, points[id % 256]);
        p = stpcpy(p, id >= 256 ? WORD_END : "") + 1;
    }
    (void)next_line(&at, end, &line); /* the header */
    for (size_t id = 512; id + 2 < vocab_size && next_line(&at, end, &line); id++) {
        const char *blank = memchr(line.data, ' ', line.size);
        const size_t left = blank ? (size_t)(blank - line.data) : line.size;

        s.at[id] = (size_t)(p - s.text);
        p = mempcpy(p, line.data, left);
        if (blank)
            p = mempcpy(p, blank + 1, line.size - left - 1);
        *p++ = '\0';
    }
    s.at[vocab_size - 2] = (size_t)(p - s.text);
    p = stpcpy(p, "<|startoftext|>") + 1;
    s.at[vocab_size - 1] = (size_t)(p - s.text);
    strcpy(p, "<|endoftext|>");
    *out = s;
    return true;
}

void comma_spellings_finish(struct comma_spellings *s)
{
    free(s->text);
    free(s->at);
    *s = (struct comma_spellings){ 0 };
}

/* The byte that a character of a spelling stands for; -1 for none. Moves *at behind it. */
static int take_byte(const char **at, const uint32_t points[256], const unsigned char values[256])
{
    uint32_t point = (unsigned char)*(*at)++;

    if (point >= 0xC0 && point < 0xE0 && ((unsigned char)**at & 0xC0) == 0x80)
        point = (point & 0x1F) << 6 | ((unsigned char)*(*at)++ & 0x3F);
    for (size_t i = 0; i < 256; i++)
        if (points[i] == point)
            return values[i];
    return -1;
}

bool comma_spellings_append(const struct comma_spellings *s, size_t id, char *out, size_t size)
{
    const char *at = s->text + s->at[id];
    size_t used = strlen(out);
    uint32_t points[256];
    unsigned char values[256];

    if (id + 2 >= s->n)
        return true;
    byte_characters(points, values);
    while (*at) {
        const bool ends = strcmp(at, WORD_END) == 0;
        const int byte = ends ? ' ' : take_byte(&at, points, values);

        if (byte < 0 || used + 2 > size)
            return false;
        out[used++] = (char)byte;
        if (ends)
            break;
    }
    out[used] = '\0';
    return true;
}
