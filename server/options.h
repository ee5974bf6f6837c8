/* SPDX-License-Identifier: MIT */
/* options.h - command lines and environment from one table: parsing, ranges, defaults, --help and errors.
 *
 * A subcommand has a struct of settings and a table that says which option fills which field:
 *
 *     struct settings { unsigned port; const char *host; bool verbose; struct comma_strings adapters; };
 *     static const struct comma_option specs[] = {
 *         { "port", 'p', "COMMA_PORT", COMMA_UINT_FIELD(struct settings, port), "8080", 0, 65535, "N", "TCP port" },
 *         { "host", 0, "COMMA_HOST", COMMA_STRING_FIELD(struct settings, host), "127.0.0.1", 0, 0, "ADDRESS", "..." },
 *     };
 *     static const struct comma_option_table table = { "serve", "[option]...", "Serves.", specs, 2, NULL };
 *     int status = comma_options_main(&table, argc, argv, &settings, NULL);
 *
 * Defaults come first, then the environment, then the command line. "--port 80", "--port=80" and "-p 80" are one; a
 * flag takes no value ("--flag=off" works), "--" ends the options. Strings are borrowed from argv, the environment and
 * the table; lists own copies. One thread, at start. */
#ifndef COMMA_SERVER_OPTIONS_H
#define COMMA_SERVER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "engine/base/error.h"

/* A list of strings that owns them. All zero is the empty list. */
struct comma_strings {
    char **items;
    size_t n;
};

COMMA_MUST_CHECK
bool comma_strings_add(struct comma_strings *list, const char *text, size_t size, struct comma_error *err);

/* Adds each piece of text between separators; empty pieces are left out, blanks round a piece too. */
COMMA_MUST_CHECK
bool comma_strings_add_split(struct comma_strings *list, const char *text, char separator, struct comma_error *err);
void comma_strings_finish(struct comma_strings *list); /* a zeroed one is fine */

enum comma_option_kind {
    COMMA_OPTION_FLAG,    /* bool; from the environment 1/0, true/false, yes/no, on/off */
    COMMA_OPTION_UINT,    /* unsigned */
    COMMA_OPTION_SIZE,    /* size_t */
    COMMA_OPTION_NUMBER,  /* double */
    COMMA_OPTION_STRING,  /* const char * */
    COMMA_OPTION_CHOICE,  /* const char *, one of the words in `value`: "auto|on|off" */
    COMMA_OPTION_STRINGS, /* struct comma_strings: one more value each time; comma-separated in the environment */
    COMMA_OPTION_REST     /* struct comma_strings: all arguments up to the next option, again and again */
};

#define COMMA_FLAG_FIELD(type, field)    COMMA_OPTION_FLAG, offsetof(type, field)
#define COMMA_UINT_FIELD(type, field)    COMMA_OPTION_UINT, offsetof(type, field)
#define COMMA_SIZE_FIELD(type, field)    COMMA_OPTION_SIZE, offsetof(type, field)
#define COMMA_NUMBER_FIELD(type, field)  COMMA_OPTION_NUMBER, offsetof(type, field)
#define COMMA_STRING_FIELD(type, field)  COMMA_OPTION_STRING, offsetof(type, field)
#define COMMA_CHOICE_FIELD(type, field)  COMMA_OPTION_CHOICE, offsetof(type, field)
#define COMMA_STRINGS_FIELD(type, field) COMMA_OPTION_STRINGS, offsetof(type, field)
#define COMMA_REST_FIELD(type, field)    COMMA_OPTION_REST, offsetof(type, field)

struct comma_option {
    const char *name; /* without dashes */
    char letter;      /* "-o"; 0: none */
    const char *env;  /* NULL: not from the environment */
    enum comma_option_kind kind;
    size_t offset;            /* of its field in the struct of settings */
    const char *fallback;     /* as one would type it; NULL: the field stays zero */
    double smallest, largest; /* of numbers */
    const char *value;        /* what stands for the value in --help, or the choices; NULL for flags */
    const char *help;         /* one line or a few, wrapped by --help; the default is added to it */
};

struct comma_option_table {
    const char *command; /* "serve" */
    const char *usage;   /* what follows it: "[option]... IMAGE..." */
    const char *summary; /* a sentence or a few */
    const struct comma_option *options;
    size_t n_options;
    const char *notes; /* printed below the options; NULL: none */
};

/* Fills *settings, a struct that is zeroed first.
 *
 *   argv   [argc], argv[0] is the subcommand's name and skipped
 *   rest   out: arguments that are no options; NULL: there must be none
 *   help   out: --help or -h was given; the rest is then not looked at
 *
 * Fails with COMMA_E_INPUT or COMMA_E_NOMEM in a sentence for the user; *settings is to be finished all the same. */
COMMA_MUST_CHECK
bool comma_options_parse(const struct comma_option_table *table, int argc, char *const *argv, void *settings,
                         size_t settings_size, struct comma_strings *rest, bool *help, struct comma_error *err);

/* The same for a main(): prints the help to stdout or the error to stderr. Returns -1 to go on, else the exit status
 * (0 after --help, 2 after an error); *settings and *rest are then finished already. */
int comma_options_main(const struct comma_option_table *table, int argc, char *const *argv, void *settings,
                       size_t settings_size, struct comma_strings *rest);

void comma_options_print_help(const struct comma_option_table *table, FILE *out);
void comma_options_finish(const struct comma_option_table *table, void *settings); /* frees the lists */

#endif
