/* SPDX-License-Identifier: MIT */
/* bpe.c - see bpe.h.
 *
 * The merges of one left symbol stand together, sorted by their right symbol, so a pair is found by halving a short
 * range: a crafted list cannot make that slow, as it could a hash table. The id of a merge's symbol grows with its
 * rank, and is larger than those of its parts, so the merge of lowest id is the next one to do, and a heap of
 * (id, position) yields them in the order that SPEC asks for: lowest rank first, then from left to right. */
#include "engine/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/checked.h"

#define END_MARK      "</w>"
#define END_MARK_SIZE 4

struct merge {
    int32_t right;
    int32_t id; /* of what it makes */
};

struct comma_bpe {
    size_t n_symbols;     /* 512 + n_merges */
    uint32_t *first;      /* [n_symbols + 1] merges[first[left] .. first[left + 1]) begin with left */
    struct merge *merges; /* [n_merges] */
    int16_t byte_ids[256];
};

/* The spelling of a symbol in the file: one printable character per byte, the end mark behind. */
struct symbol {
    uint64_t head; /* its first eight bytes, so that most comparisons need no more */
    const char *spelling;
    size_t size;
    int32_t id;
};

/* What reading a list needs and encoding does not. */
struct reader {
    struct symbol *symbols; /* [n_symbols] sorted by spelling */
    char *spellings;        /* behind each other, without the space between left and right */
    struct comma_text *lines;
};

static bool is_printable(unsigned b)
{
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
}

/* CLIP's order of the bytes: the printable ones of Latin-1, spelled as themselves, then the rest, spelled U+0100 on. */
static void list_bytes(unsigned char byte_of[256], uint32_t spelling[256])
{
    size_t n = 0;
    uint32_t next = 0x100;

    for (unsigned b = 0; b < 256; b++)
        if (is_printable(b)) {
            byte_of[n] = (unsigned char)b;
            spelling[n++] = b;
        }
    for (unsigned b = 0; b < 256; b++)
        if (!is_printable(b)) {
            byte_of[n] = (unsigned char)b;
            spelling[n++] = next++;
        }
}

static struct symbol symbol_of(struct comma_text spelling, int32_t id)
{
    struct symbol s = { 0, spelling.data, spelling.size, id };

    for (size_t i = 0; i < 8; i++)
        s.head = s.head << 8 | (i < s.size ? (unsigned char)s.spelling[i] : 0);
    return s;
}

static int compare_spellings(const struct symbol *a, const struct symbol *b)
{
    const size_t size = a->size < b->size ? a->size : b->size;
    int order;

    if (a->head != b->head)
        return a->head < b->head ? -1 : 1;
    order = memcmp(a->spelling, b->spelling, size);
    return order ? order : (a->size > b->size) - (a->size < b->size);
}

static int compare_symbols(const void *a, const void *b)
{
    const struct symbol *x = a, *y = b;
    const int order = compare_spellings(x, y);

    return order ? order : (x->id > y->id) - (x->id < y->id);
}

/* The id of a spelling, -1 for an unknown one. */
static int32_t find_symbol(const struct reader *r, size_t n_symbols, struct comma_text spelling)
{
    const struct symbol wanted = symbol_of(spelling, 0);
    size_t low = 0, high = n_symbols;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = compare_spellings(&wanted, &r->symbols[middle]);

        if (order == 0)
            return r->symbols[middle].id;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

/* Cuts the next line off text, without its end, "\n" or "\r\n". False at the end. */
static bool next_line(struct comma_text *text, struct comma_text *line)
{
    const char *end;

    if (text->size == 0)
        return false;
    end = memchr(text->data, '\n', text->size);
    *line = (struct comma_text){ text->data, end ? (size_t)(end - text->data) : text->size };
    text->data += line->size + (end ? 1 : 0);
    text->size -= line->size + (end ? 1 : 0);
    if (line->size > 0 && line->data[line->size - 1] == '\r')
        line->size--;
    return true;
}

/* How many lines follow the header, counted up to max: what comes behind the merges in use may be anything. */
static size_t count_lines(struct comma_text text, size_t max)
{
    struct comma_text line;
    size_t n = 0;

    if (!next_line(&text, &line))
        return 0;
    while (n < max && next_line(&text, &line))
        n++;
    return n;
}

/* The two symbols of line m. */
static bool split_line(const struct reader *r, size_t m, struct comma_text *left, struct comma_text *right,
                       struct comma_error *err)
{
    const struct comma_text line = r->lines[m];
    const char *space = line.size > 0 ? memchr(line.data, ' ', line.size) : NULL;

    if (!space)
        return comma_fail(err, COMMA_E_MODEL, "merges line %zu: expected two symbols with a space between them", m + 2);
    *left = (struct comma_text){ line.data, (size_t)(space - line.data) };
    *right = (struct comma_text){ space + 1, line.size - left->size - 1 };
    if (left->size == 0 || right->size == 0 || memchr(right->data, ' ', right->size))
        return comma_fail(err, COMMA_E_MODEL,
                          "merges line %zu: expected exactly two symbols with one space between them", m + 2);
    if (left->size >= END_MARK_SIZE && memcmp(space - END_MARK_SIZE, END_MARK, END_MARK_SIZE) == 0)
        return comma_fail(err, COMMA_E_MODEL, "merges line %zu: only the second symbol can end in " END_MARK, m + 2);
    return true;
}

/* Spells all symbols, in the order of their ids: 256 bytes, the same with the end mark, and what each line makes. */
static bool list_symbols(struct reader *r, size_t n_merges, const uint32_t byte_spelling[256], struct comma_error *err)
{
    char *p = r->spellings;

    for (int32_t id = 0; id < COMMA_BPE_BYTE_IDS; id++) {
        const uint32_t c = byte_spelling[id % 256];
        char *start = p;

        if (c < 0x80) {
            *p++ = (char)c;
        } else {
            *p++ = (char)(0xC0 | c >> 6);
            *p++ = (char)(0x80 | (c & 0x3F));
        }
        if (id >= 256) {
            memcpy(p, END_MARK, END_MARK_SIZE);
            p += END_MARK_SIZE;
        }
        r->symbols[id] = symbol_of((struct comma_text){ start, (size_t)(p - start) }, id);
    }
    for (size_t m = 0; m < n_merges; m++) {
        struct comma_text left, right;

        if (!split_line(r, m, &left, &right, err))
            return false;
        memcpy(p, left.data, left.size);
        memcpy(p + left.size, right.data, right.size);
        r->symbols[COMMA_BPE_BYTE_IDS + m] =
            symbol_of((struct comma_text){ p, left.size + right.size }, (int32_t)(COMMA_BPE_BYTE_IDS + m));
        p += left.size + right.size;
    }
    return true;
}

/* The line, counted from 1, that makes a symbol. */
static int line_of(int32_t id)
{
    return id - COMMA_BPE_BYTE_IDS + 2;
}

static bool check_distinct(const struct reader *r, size_t n_symbols, struct comma_error *err)
{
    for (size_t i = 1; i < n_symbols; i++) {
        const struct symbol *a = &r->symbols[i - 1], *b = &r->symbols[i];

        /* bytes are distinct and a later merge has the larger id, so b is a merge */
        if (compare_spellings(a, b) != 0)
            continue;
        if (a->id < COMMA_BPE_BYTE_IDS)
            return comma_fail(err, COMMA_E_MODEL, "merges line %d makes what is a byte already", line_of(b->id));
        return comma_fail(err, COMMA_E_MODEL, "merges line %d makes the same symbol as line %d", line_of(b->id),
                          line_of(a->id));
    }
    return true;
}

/* Ids of the two symbols of line m, each of which must exist before it. */
static bool resolve_line(const struct reader *r, size_t m, size_t n_symbols, int32_t ids[2], struct comma_error *err)
{
    struct comma_text sides[2];

    if (!split_line(r, m, &sides[0], &sides[1], err))
        return false;
    for (int i = 0; i < 2; i++) {
        ids[i] = find_symbol(r, n_symbols, sides[i]);
        if (ids[i] < 0 || (size_t)ids[i] >= COMMA_BPE_BYTE_IDS + m)
            return comma_fail(err, COMMA_E_MODEL,
                              "merges line %zu: its %s symbol is neither a byte nor made by an earlier line", m + 2,
                              i == 0 ? "first" : "second");
    }
    return true;
}

static int compare_merges(const void *a, const void *b)
{
    const struct merge *x = a, *y = b;

    return (x->right > y->right) - (x->right < y->right);
}

/* Fills first and merges: counts the merges of each left symbol, places them, sorts each range. */
static bool index_merges(struct comma_bpe *bpe, const struct reader *r, size_t n_merges, struct comma_error *err)
{
    int32_t *pairs = calloc(n_merges ? n_merges : 1, 2 * sizeof(*pairs));
    bool ok = false;

    if (!pairs) {
        comma_fail(err, COMMA_E_NOMEM, "out of memory for %zu merges", n_merges);
        goto out;
    }
    for (size_t m = 0; m < n_merges; m++) {
        if (!resolve_line(r, m, bpe->n_symbols, pairs + 2 * m, err))
            goto out;
        bpe->first[pairs[2 * m] + 1]++;
    }
    for (size_t s = 0; s < bpe->n_symbols; s++)
        bpe->first[s + 1] += bpe->first[s];
    /* first[left + 1], the end of left's range, counts down to its beginning while the range fills */
    for (size_t m = 0; m < n_merges; m++)
        bpe->merges[--bpe->first[pairs[2 * m] + 1]] =
            (struct merge){ pairs[2 * m + 1], (int32_t)(COMMA_BPE_BYTE_IDS + m) };
    memmove(bpe->first, bpe->first + 1, bpe->n_symbols * sizeof(*bpe->first));
    bpe->first[bpe->n_symbols] = (uint32_t)n_merges;
    for (size_t s = 0; s < bpe->n_symbols; s++)
        qsort(bpe->merges + bpe->first[s], bpe->first[s + 1] - bpe->first[s], sizeof(*bpe->merges), compare_merges);
    ok = true;
out:
    free(pairs);
    return ok;
}

bool comma_bpe_create(struct comma_bytes merges, size_t n_merges, struct comma_bpe **out, struct comma_error *err)
{
    struct comma_text text = { (const char *)merges.data, merges.size }, line;
    struct comma_bpe *bpe = NULL;
    struct reader r = { 0 };
    unsigned char byte_of[256];
    uint32_t byte_spelling[256];
    const size_t n_lines = count_lines(text, n_merges); /* what is allocated below is bounded by the size of the file */
    bool ok = false;

    if (n_lines < n_merges)
        return comma_fail(err, COMMA_E_MODEL, "merges: %zu lines follow the header, but the vocabulary needs %zu",
                          n_lines, n_merges);
    bpe = calloc(1, sizeof(*bpe));
    if (!bpe)
        goto nomem;
    bpe->n_symbols = COMMA_BPE_BYTE_IDS + n_merges;
    bpe->first = calloc(bpe->n_symbols + 1, sizeof(*bpe->first));
    bpe->merges = calloc(n_merges ? n_merges : 1, sizeof(*bpe->merges));
    r.symbols = calloc(bpe->n_symbols, sizeof(*r.symbols));
    r.lines = calloc(n_merges ? n_merges : 1, sizeof(*r.lines));
    r.spellings = malloc(merges.size + (size_t)COMMA_BPE_BYTE_IDS * (2 + END_MARK_SIZE));
    if (!bpe->first || !bpe->merges || !r.symbols || !r.lines || !r.spellings)
        goto nomem;
    (void)next_line(&text, &line); /* the header */
    for (size_t m = 0; m < n_merges; m++)
        (void)next_line(&text, &r.lines[m]);
    list_bytes(byte_of, byte_spelling);
    for (int16_t id = 0; id < 256; id++)
        bpe->byte_ids[byte_of[id]] = id;
    if (!list_symbols(&r, n_merges, byte_spelling, err))
        goto out;
    qsort(r.symbols, bpe->n_symbols, sizeof(*r.symbols), compare_symbols);
    ok = check_distinct(&r, bpe->n_symbols, err) && index_merges(bpe, &r, n_merges, err);
    goto out;
nomem:
    comma_fail(err, COMMA_E_NOMEM, "out of memory for %zu merges", n_merges);
out:
    free(r.symbols);
    free(r.lines);
    free(r.spellings);
    if (ok)
        *out = bpe;
    else
        comma_bpe_destroy(bpe);
    return ok;
}

void comma_bpe_destroy(struct comma_bpe *bpe)
{
    if (!bpe)
        return;
    free(bpe->first);
    free(bpe->merges);
    free(bpe);
}

/* What left and right merge to, -1 for nothing. */
static int32_t find_merge(const struct comma_bpe *bpe, int32_t left, int32_t right)
{
    size_t low = bpe->first[left], high = bpe->first[left + 1];

    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct merge *m = &bpe->merges[middle];

        if (m->right == right)
            return m->id;
        if (right < m->right)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

/* One word on its way. Symbols are a list threaded through the arrays, since merging takes from its middle. */
struct work {
    uint64_t *heap; /* [3 n] candidates, id << 32 | position of the left symbol; the smallest on top */
    size_t n_heap;
    int32_t *ids;   /* [n] -1 where a symbol went into its left neighbour */
    uint32_t *next; /* [n] n at the end */
    uint32_t *prev; /* [n] n at the start */
    uint32_t n;
};

static void heap_push(struct work *w, uint64_t key)
{
    size_t i = w->n_heap++;

    while (i > 0 && w->heap[(i - 1) / 2] > key) {
        w->heap[i] = w->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    w->heap[i] = key;
}

static uint64_t heap_pop(struct work *w)
{
    const uint64_t top = w->heap[0], key = w->heap[--w->n_heap];
    size_t i = 0;

    for (;;) {
        size_t child = 2 * i + 1;

        if (child >= w->n_heap)
            break;
        if (child + 1 < w->n_heap && w->heap[child + 1] < w->heap[child])
            child++;
        if (w->heap[child] >= key)
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    w->heap[i] = key;
    return top;
}

/* Makes the symbol at and its right neighbour a candidate, if they merge. */
static void consider(const struct comma_bpe *bpe, struct work *w, uint32_t at)
{
    int32_t id;

    if (at >= w->n || w->next[at] >= w->n)
        return;
    id = find_merge(bpe, w->ids[at], w->ids[w->next[at]]);
    if (id >= 0)
        heap_push(w, (uint64_t)id << 32 | at);
}

/* heap, next, prev. The heap gets at most one candidate for each pair at the start and two for each merge. */
bool comma_bpe_scratch_bytes(size_t word_size, size_t *bytes)
{
    return word_size < UINT32_MAX && comma_mul(word_size, 3 * sizeof(uint64_t) + 2 * sizeof(uint32_t), bytes);
}

size_t comma_bpe_encode(const struct comma_bpe *bpe, struct comma_bytes word, void *scratch, int32_t *ids)
{
    struct work w = { .heap = scratch, .ids = ids, .n = (uint32_t)word.size };
    size_t n_ids = 0;

    w.next = (uint32_t *)(w.heap + 3 * word.size);
    w.prev = w.next + word.size;
    for (uint32_t i = 0; i < w.n; i++) {
        ids[i] = bpe->byte_ids[word.data[i]] + (i + 1 == w.n ? 256 : 0);
        w.next[i] = i + 1;
        w.prev[i] = i > 0 ? i - 1 : w.n;
    }
    for (uint32_t i = 0; i < w.n; i++)
        consider(bpe, &w, i);
    while (w.n_heap > 0) {
        const uint64_t top = heap_pop(&w);
        const uint32_t at = (uint32_t)top;
        const int32_t id = (int32_t)(top >> 32);
        uint32_t right;

        /* stale, if either side has meanwhile gone into another merge */
        if (ids[at] < 0 || w.next[at] >= w.n || find_merge(bpe, ids[at], ids[w.next[at]]) != id)
            continue;
        right = w.next[at];
        ids[at] = id;
        ids[right] = -1;
        w.next[at] = w.next[right];
        if (w.next[at] < w.n)
            w.prev[w.next[at]] = at;
        consider(bpe, &w, w.prev[at]);
        consider(bpe, &w, at);
    }
    for (uint32_t i = 0; i < w.n; i = w.next[i])
        ids[n_ids++] = ids[i];
    return n_ids;
}
