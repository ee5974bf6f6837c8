/* SPDX-License-Identifier: MIT */
/* terminal.h - what subcommands write: complaints, tables, a progress bar, and whether stdout took it all.
 *
 * Results go to stdout, everything else to stderr. Text from outside (paths, labels) goes through here so that its
 * control characters cannot steer a terminal or break a table: each is shown as '?'. One thread. */
#ifndef COMMA_SERVER_TERMINAL_H
#define COMMA_SERVER_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/base/error.h"
#include "engine/base/text.h"

/* Prints "comma: message" to stderr, on a line of its own below the progress bar. */
void comma_complain(const char *format, ...) COMMA_PRINTF(1, 2);

/* Prints text to stdout with '?' for each control character. */
void comma_print_text(struct comma_text text);

/* True if stdout is a terminal: tables for people; else lines for programs, with tabs between columns. */
bool comma_stdout_is_terminal(void);

/* Writes out what stdout holds back. False if it does not take any more: then there is no use in going on. *failed is
 * set unless the reader just went away (`comma ... | head`), which is no fault; a complaint is printed then. */
bool comma_stdout_flush(bool *failed);

/* ---- tables ---- */

/* Cells of text in rows, the first column(s) to the left and numbers to the right. All zero but n_columns to begin. */
struct comma_table {
    size_t n_columns, n_cells, capacity;
    unsigned right; /* bit c: column c is set to the right */
    char **cells;
    bool failed; /* memory ran out */
};

/* Adds the next cell, row by row. */
void comma_table_add(struct comma_table *table, const char *format, ...) COMMA_PRINTF(2, 3);
void comma_table_add_text(struct comma_table *table, struct comma_text text);

/* Prints the rows to stdout and empties the table: aligned, indented by so many blanks; or, where stdout is no
 * terminal, with one tab between columns. False when memory ran out while filling it. */
COMMA_MUST_CHECK
bool comma_table_print(struct comma_table *table, unsigned indent, struct comma_error *err);
void comma_table_finish(struct comma_table *table); /* an empty one is fine */

/* ---- progress ---- */

/* A line on stderr that says how far long work is; nothing at all where stderr is no terminal. */
void comma_progress_show(const char *what, size_t done, size_t total);
void comma_progress_clear(void); /* takes the line away */

#endif
