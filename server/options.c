/* SPDX-License-Identifier: MIT */
/* options.c - see options.h. All that knows how an option is written, here or in the environment, is in this file;
 * what options there are stands in the tables of the subcommands. */
#include "server/options.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define HELP_COLUMN 30
#define HELP_WIDTH  110

bool comma_strings_add(struct comma_strings *list, const char *text, size_t size, struct comma_error *err)
{
    char **items = realloc(list->items, (list->n + 1) * sizeof(*items));
    char *copy = NULL;

    if (items) {
        list->items = items;
        copy = strndup(text, size);
    }
    if (!copy)
        return comma_fail(err, COMMA_E_NOMEM, "out of memory while reading the options");
    list->items[list->n++] = copy;
    return true;
}

bool comma_strings_add_split(struct comma_strings *list, const char *text, char separator, struct comma_error *err)
{
    while (*text) {
        const char *end = strchrnul(text, separator);
        const char *first = text, *last = end;

        while (first < last && strchr(" \t\r\n", *first))
            first++;
        while (last > first && strchr(" \t\r\n", last[-1]))
            last--;
        if (last > first && !comma_strings_add(list, first, (size_t)(last - first), err))
            return false;
        text = *end ? end + 1 : end;
    }
    return true;
}

void comma_strings_finish(struct comma_strings *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct comma_strings){ 0 };
}

/* Where a value came from, for error messages: "--port" or "COMMA_PORT". */
struct origin {
    const char *dashes, *name;
    bool environment;
};

static bool parse_flag(const struct origin *from, const char *text, bool *out, struct comma_error *err)
{
    static const char *const yes[] = { "1", "true", "yes", "on" }, *const no[] = { "0", "false", "no", "off", "" };

    for (size_t i = 0; i < sizeof(yes) / sizeof(*yes); i++)
        if (strcasecmp(text, yes[i]) == 0)
            return *out = true;
    for (size_t i = 0; i < sizeof(no) / sizeof(*no); i++)
        if (strcasecmp(text, no[i]) == 0) {
            *out = false;
            return true;
        }
    return comma_fail(err, COMMA_E_INPUT, "%s%s: \"%.80s\" is neither on nor off; write true or false", from->dashes,
                      from->name, text);
}

static bool parse_number(const struct origin *from, const struct comma_option *option, const char *text, bool whole,
                         double *out, struct comma_error *err)
{
    char *end;
    double value;

    errno = 0;
    value = strtod(text, &end);
    /* strtod takes " 1", "0x10", "inf" and "nan" too; the first character and the range keep those out. */
    if (end == text || *end || errno || strspn(text, "0123456789.eE+-") != strlen(text) || text[0] == '+')
        return comma_fail(err, COMMA_E_INPUT, "%s%s: \"%.80s\" is not a number; allowed is %.10g to %.10g",
                          from->dashes, from->name, text, option->smallest, option->largest);
    if (whole && value != floor(value))
        return comma_fail(err, COMMA_E_INPUT, "%s%s: %.80s is not a whole number; allowed is %.10g to %.10g",
                          from->dashes, from->name, text, option->smallest, option->largest);
    if (value < option->smallest || value > option->largest)
        return comma_fail(err, COMMA_E_INPUT, "%s%s: %.80s is out of range; allowed is %.10g to %.10g", from->dashes,
                          from->name, text, option->smallest, option->largest);
    *out = value;
    return true;
}

static bool parse_choice(const struct origin *from, const struct comma_option *option, const char *text,
                         const char **out, struct comma_error *err)
{
    const size_t size = strlen(text);

    for (const char *word = option->value; *word;) {
        const char *end = strchrnul(word, '|');

        if ((size_t)(end - word) == size && memcmp(word, text, size) == 0) {
            *out = text;
            return true;
        }
        word = *end ? end + 1 : end;
    }
    return comma_fail(err, COMMA_E_INPUT, "%s%s: \"%.80s\" is not one of %s", from->dashes, from->name, text,
                      option->value);
}

/* Sets the option's field from text. */
static bool set(const struct comma_option *option, const struct origin *from, const char *text, void *settings,
                struct comma_error *err)
{
    void *field = (char *)settings + option->offset;
    double number;

    switch (option->kind) {
    case COMMA_OPTION_FLAG:
        return parse_flag(from, text, field, err);
    case COMMA_OPTION_UINT:
        if (!parse_number(from, option, text, true, &number, err))
            return false;
        *(unsigned *)field = (unsigned)number;
        return true;
    case COMMA_OPTION_SIZE:
        if (!parse_number(from, option, text, true, &number, err))
            return false;
        *(size_t *)field = (size_t)number;
        return true;
    case COMMA_OPTION_NUMBER:
        return parse_number(from, option, text, false, field, err);
    case COMMA_OPTION_STRING:
        *(const char **)field = text;
        return true;
    case COMMA_OPTION_CHOICE:
        return parse_choice(from, option, text, field, err);
    case COMMA_OPTION_STRINGS:
    case COMMA_OPTION_REST:
        if (from->environment)
            return comma_strings_add_split(field, text, ',', err);
        return comma_strings_add(field, text, strlen(text), err);
    }
    return false;
}

static bool set_defaults(const struct comma_option_table *table, void *settings, struct comma_error *err)
{
    for (size_t i = 0; i < table->n_options; i++) {
        const struct comma_option *option = &table->options[i];
        const struct origin by_default = { "--", option->name, false };
        const char *text = option->env ? getenv(option->env) : NULL;

        if (option->fallback && !set(option, &by_default, option->fallback, settings, err))
            return false;
        /* An empty variable is how compose files and shells say "not set". */
        if (text && *text && !set(option, &(struct origin){ "", option->env, true }, text, settings, err))
            return false;
    }
    return true;
}

/* The option that name (of size bytes) means: by its letter if it came after one dash. NULL if there is none. */
static const struct comma_option *find(const struct comma_option_table *table, const char *name, size_t size,
                                       bool letter)
{
    for (size_t i = 0; i < table->n_options; i++) {
        const struct comma_option *option = &table->options[i];

        if (letter ? (size == 1 && option->letter == *name)
                   : (strlen(option->name) == size && memcmp(option->name, name, size) == 0))
            return option;
    }
    return NULL;
}

static bool is_option(const char *argument)
{
    return argument[0] == '-' && argument[1] != '\0';
}

/* Takes the option at argv[*at], with its values, and moves *at to the last argument used. */
static bool take(const struct comma_option_table *table, int argc, char *const *argv, int *at, void *settings,
                 struct comma_error *err)
{
    const bool letter = argv[*at][1] != '-';
    const char *name = argv[*at] + (letter ? 1 : 2);
    const char *end = strchrnul(name, '=');
    const struct comma_option *option = find(table, name, (size_t)(end - name), letter);
    struct origin from = { "--", NULL, false };

    if (!option)
        return comma_fail(err, COMMA_E_INPUT, "unknown option %.80s; comma %s --help lists them", argv[*at],
                          table->command);
    from.name = option->name;
    if (*end)
        return set(option, &from, end + 1, settings, err);
    if (option->kind == COMMA_OPTION_FLAG)
        return set(option, &from, "true", settings, err);
    if (*at + 1 >= argc)
        return comma_fail(err, COMMA_E_INPUT, "--%s wants a value: --%s %s", option->name, option->name,
                          option->value ? option->value : "VALUE");
    do {
        if (!set(option, &from, argv[++*at], settings, err))
            return false;
    } while (option->kind == COMMA_OPTION_REST && *at + 1 < argc && !is_option(argv[*at + 1]));
    return true;
}

bool comma_options_parse(const struct comma_option_table *table, int argc, char *const *argv, void *settings,
                         size_t settings_size, struct comma_strings *rest, bool *help, struct comma_error *err)
{
    bool options_end = false;

    memset(settings, 0, settings_size);
    if (rest)
        *rest = (struct comma_strings){ 0 };
    *help = false;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return *help = true;
    if (!set_defaults(table, settings, err))
        return false;
    for (int i = 1; i < argc; i++) {
        if (!options_end && strcmp(argv[i], "--") == 0) {
            options_end = true;
        } else if (!options_end && is_option(argv[i])) {
            if (!take(table, argc, argv, &i, settings, err))
                return false;
        } else if (!rest) {
            return comma_fail(err, COMMA_E_INPUT, "comma %s takes options only, not \"%.80s\"; see comma %s --help",
                              table->command, argv[i], table->command);
        } else if (!comma_strings_add(rest, argv[i], strlen(argv[i]), err)) {
            return false;
        }
    }
    return true;
}

/* Prints text in words from HELP_COLUMN on, the cursor being at column. */
static void print_wrapped(FILE *out, const char *text, size_t column)
{
    if (column >= HELP_COLUMN) {
        fputc('\n', out);
        column = 0;
    }
    for (; column < HELP_COLUMN; column++)
        fputc(' ', out);
    while (*text) {
        const size_t word = strcspn(text, " ");

        if (column > HELP_COLUMN && column + 1 + word > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else if (column > HELP_COLUMN) {
            fputc(' ', out);
            column++;
        }
        fwrite(text, 1, word, out);
        column += word;
        text += word + strspn(text + word, " ");
    }
    fputc('\n', out);
}

void comma_options_print_help(const struct comma_option_table *table, FILE *out)
{
    fprintf(out, "usage: comma %s %s\n\n%s\n\n", table->command, table->usage, table->summary);
    for (size_t i = 0; i < table->n_options; i++) {
        const struct comma_option *option = &table->options[i];
        const bool flag = option->kind == COMMA_OPTION_FLAG;
        const bool many = option->kind == COMMA_OPTION_STRINGS || option->kind == COMMA_OPTION_REST;
        char head[96], body[640];
        int column;

        snprintf(head, sizeof(head), "  --%s%s%s%s", option->name, flag ? "" : " ",
                 flag            ? ""
                 : option->value ? option->value
                                 : "VALUE",
                 many ? "..." : "");
        column = fprintf(out, "%s", head);
        if (option->letter)
            column += fprintf(out, ", -%c", option->letter);
        snprintf(body, sizeof(body), "%s%s%s%s%s%s%s", option->help, option->fallback && !flag ? " (default " : "",
                 option->fallback && !flag ? option->fallback : "", option->fallback && !flag ? ")" : "",
                 option->env ? " [" : "", option->env ? option->env : "", option->env ? "]" : "");
        print_wrapped(out, body, column < 0 ? 0 : (size_t)column);
    }
    if (table->notes)
        fprintf(out, "\n%s\n", table->notes);
}

void comma_options_finish(const struct comma_option_table *table, void *settings)
{
    for (size_t i = 0; i < table->n_options; i++) {
        const struct comma_option *option = &table->options[i];

        if (option->kind == COMMA_OPTION_STRINGS || option->kind == COMMA_OPTION_REST)
            comma_strings_finish((struct comma_strings *)((char *)settings + option->offset));
    }
}

int comma_options_main(const struct comma_option_table *table, int argc, char *const *argv, void *settings,
                       size_t settings_size, struct comma_strings *rest)
{
    struct comma_error err = { 0 };
    bool help;
    int status = -1;

    if (!comma_options_parse(table, argc, argv, settings, settings_size, rest, &help, &err)) {
        fprintf(stderr, "comma %s: %s\n", table->command, err.message);
        status = 2;
    } else if (help) {
        comma_options_print_help(table, stdout);
        status = 0;
    }
    if (status >= 0) {
        comma_options_finish(table, settings);
        if (rest)
            comma_strings_finish(rest);
    }
    return status;
}
