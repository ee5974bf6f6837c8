/* SPDX-License-Identifier: MIT */
/* terminal.c - see terminal.h. */
#include "server/terminal.h"

#include <errno.h>
#include <locale.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <wchar.h>

#include "engine/base/clock.h"

#define BAR_WIDTH       24
#define BAR_INTERVAL_NS (100 * 1000000) /* ten times a second is smooth enough */
#define MAX_COLUMNS     16

/* The code point at *at, which moves behind it; a byte that is not UTF-8 counts as one '?'. */
static uint32_t next_point(struct comma_text text, size_t *at)
{
    const unsigned char first = (unsigned char)text.data[*at];
    const size_t size = first < 0x80 ? 1 : first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    uint32_t point = size == 1 ? first : first & (0x7Fu >> size);

    if (*at + size > text.size || !comma_utf8_valid(text.data + *at, size)) {
        ++*at;
        return '?';
    }
    for (size_t i = 1; i < size; i++)
        point = point << 6 | ((unsigned char)text.data[*at + i] & 0x3F);
    *at += size;
    return point;
}

/* C0, DEL, C1, and the marks that turn the direction of what follows. */
static bool is_control(uint32_t point)
{
    return point < 0x20 || (point >= 0x7F && point < 0xA0) || (point >= 0x202A && point <= 0x202E) ||
           (point >= 0x2066 && point <= 0x2069);
}

static void write_text(FILE *out, struct comma_text text)
{
    for (size_t at = 0, from = 0; at < text.size; from = at) {
        const uint32_t point = next_point(text, &at);

        if (is_control(point) || point == '?')
            fputc('?', out);
        else
            fwrite(text.data + from, 1, at - from, out);
    }
}

/* Columns that text takes on a terminal. */
static size_t width_of(struct comma_text text)
{
    size_t width = 0;

    for (size_t at = 0; at < text.size;) {
        const uint32_t point = next_point(text, &at);
        const int w = is_control(point) ? 1 : wcwidth((wchar_t)point);

        width += w < 0 ? 1 : (size_t)w;
    }
    return width;
}

void comma_print_text(struct comma_text text)
{
    write_text(stdout, text);
}

void comma_complain(const char *format, ...)
{
    char message[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    comma_progress_clear();
    fputs("comma: ", stderr);
    write_text(stderr, comma_text_of(message));
    fputc('\n', stderr);
}

bool comma_stdout_is_terminal(void)
{
    return isatty(STDOUT_FILENO) == 1;
}

bool comma_stdout_flush(bool *failed)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return true;
    if (errno != EPIPE) {
        *failed = true;
        comma_complain("standard output: %s", strerror(errno));
    }
    return false;
}

/* ---- tables ---- */

static void add_cell(struct comma_table *table, char *cell)
{
    if (cell && table->n_cells == table->capacity) {
        const size_t capacity = table->capacity ? table->capacity * 2 : 64;
        char **cells = reallocarray(table->cells, capacity, sizeof(*cells));

        if (cells) {
            table->cells = cells;
            table->capacity = capacity;
        } else {
            free(cell);
            cell = NULL;
        }
    }
    if (cell)
        table->cells[table->n_cells++] = cell;
    else
        table->failed = true;
}

void comma_table_add(struct comma_table *table, const char *format, ...)
{
    char *cell = NULL;
    va_list args;

    va_start(args, format);
    if (vasprintf(&cell, format, args) < 0)
        cell = NULL;
    va_end(args);
    add_cell(table, cell);
}

void comma_table_add_text(struct comma_table *table, struct comma_text text)
{
    add_cell(table, strndup(text.data, text.size));
}

static void print_blanks(size_t n)
{
    while (n--)
        fputc(' ', stdout);
}

static void print_aligned_row(const struct comma_table *table, char *const *row, const size_t *widths, unsigned indent)
{
    print_blanks(indent);
    for (size_t c = 0; c < table->n_columns; c++) {
        const struct comma_text cell = comma_text_of(row[c]);
        const size_t pad = widths[c] - width_of(cell);
        const bool right = table->right >> c & 1;

        print_blanks((c > 0 ? 2 : 0) + (right ? pad : 0));
        comma_print_text(cell);
        if (!right && c + 1 < table->n_columns)
            print_blanks(pad);
    }
    fputc('\n', stdout);
}

static void print_aligned(const struct comma_table *table, unsigned indent)
{
    size_t widths[MAX_COLUMNS] = { 0 };

    setlocale(LC_CTYPE, "C.UTF-8"); /* for wcwidth(): wide and combining characters, whatever LANG says */
    for (size_t i = 0; i < table->n_cells; i++) {
        const size_t width = width_of(comma_text_of(table->cells[i]));
        size_t *widest = &widths[i % table->n_columns];

        *widest = width > *widest ? width : *widest;
    }
    for (size_t i = 0; i + table->n_columns <= table->n_cells; i += table->n_columns)
        print_aligned_row(table, table->cells + i, widths, indent);
}

static void print_tabbed(const struct comma_table *table)
{
    for (size_t i = 0; i < table->n_cells; i++) {
        comma_print_text(comma_text_of(table->cells[i]));
        fputc((i + 1) % table->n_columns == 0 ? '\n' : '\t', stdout);
    }
}

bool comma_table_print(struct comma_table *table, unsigned indent, struct comma_error *err)
{
    const bool ok = !table->failed && table->n_columns <= MAX_COLUMNS;

    if (!ok)
        comma_fail(err, COMMA_E_NOMEM, "out of memory for a table");
    else if (comma_stdout_is_terminal())
        print_aligned(table, indent);
    else
        print_tabbed(table);
    comma_table_finish(table);
    return ok;
}

void comma_table_finish(struct comma_table *table)
{
    for (size_t i = 0; i < table->n_cells; i++)
        free(table->cells[i]);
    free(table->cells);
    table->cells = NULL;
    table->n_cells = table->capacity = 0;
    table->failed = false;
}

/* ---- progress ---- */

/* What is on the screen belongs to the process, as stderr does. */
static struct {
    bool shown;
    int64_t shown_ns;
} bar;

void comma_progress_show(const char *what, size_t done, size_t total)
{
    const int64_t now_ns = comma_now_ns();
    const size_t filled = total ? done * BAR_WIDTH / total : 0;

    if (isatty(STDERR_FILENO) != 1 || done == total || now_ns - bar.shown_ns < BAR_INTERVAL_NS)
        return;
    fprintf(stderr, "\r\033[K%s [", what);
    for (size_t i = 0; i < BAR_WIDTH; i++)
        fputc(i < filled ? '#' : '.', stderr);
    fprintf(stderr, "] %zu/%zu", done, total);
    fflush(stderr);
    bar.shown = true;
    bar.shown_ns = now_ns;
}

void comma_progress_clear(void)
{
    if (bar.shown)
        fputs("\r\033[K", stderr);
    bar.shown = false;
}
