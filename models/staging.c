/* SPDX-License-Identifier: MIT */
/* staging.c - see staging.h. */
#include "models/staging.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "models/hf_dir.h"

#define MAX_TRIES    100
#define MAX_OPEN_FDS 16

static bool io_failed(const char *path, struct comma_error *err)
{
    return comma_fail(err, COMMA_E_IO, "%s: %s", path, strerror(errno));
}

/* ---- what is at the target ---- */

static bool is_there(const char *dir, const char *name)
{
    char *path = comma_path_join(dir, name, NULL);
    const bool there = path && access(path, F_OK) == 0;

    free(path);
    return there;
}

enum content { NOTHING, A_MODEL, SOMETHING_ELSE };

/* What dir holds, so that --force cannot take away anything but what convert writes or a Hugging Face download has.
 * What speaks against that goes into why. */
static enum content look_into(const char *dir, char *why, size_t size)
{
    const bool weights = is_there(dir, "model.safetensors") || is_there(dir, "model.safetensors.index.json") ||
                         is_there(dir, "pytorch_model.bin");
    const bool model = (weights && is_there(dir, "config.json")) ||
                       (is_there(dir, "adapter_model.safetensors") && is_there(dir, "adapter_config.json"));
    DIR *d = opendir(dir);
    const struct dirent *entry;
    bool empty = true, foreign = false;

    snprintf(why, size, "it is neither a model nor an adapter directory");
    if (!d) {
        snprintf(why, size, "it cannot be read");
        return SOMETHING_ELSE;
    }
    while ((entry = readdir(d))) {
        struct stat st;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        empty = false;
        if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode) &&
            !S_ISLNK(st.st_mode) && !(S_ISDIR(st.st_mode) && strcmp(entry->d_name, "adapters") == 0)) {
            foreign = true;
            snprintf(why, size, "%.80s is in it, which is no part of a model", entry->d_name);
        }
    }
    closedir(d);
    return empty ? NOTHING : model && !foreign ? A_MODEL : SOMETHING_ELSE;
}

static bool check_target(struct comma_staging *s, bool force, struct comma_error *err)
{
    struct stat st;
    char why[160];
    enum content content;

    if (stat(s->target, &st) != 0)
        return errno == ENOENT || io_failed(s->target, err);
    if (!S_ISDIR(st.st_mode))
        return comma_fail(err, COMMA_E_INPUT, "%s: there is a file of this name; a directory is made", s->target);
    content = look_into(s->target, why, sizeof(why));
    if (content == NOTHING)
        return true; /* rename() takes an empty one's place */
    if (!force)
        return comma_fail(err, COMMA_E_INPUT, "%s: it is there already; choose another -o, or replace it with --force",
                          s->target);
    if (content != A_MODEL)
        return comma_fail(err, COMMA_E_INPUT, "%s: not replaced, even with --force: %s", s->target, why);
    return s->replace = true;
}

/* ---- names ---- */

/* target without slashes at its end, and with links resolved if it is there: what is renamed is the directory itself.
 */
static bool resolve(const char *target, char **out, struct comma_error *err)
{
    size_t size = strlen(target);
    char *plain;

    if (size == 0)
        return comma_fail(err, COMMA_E_INPUT, "the directory to write has an empty name");
    while (size > 1 && target[size - 1] == '/')
        size--;
    if (!(*out = realpath(target, NULL)) && errno != ENOENT)
        return io_failed(target, err);
    if (*out)
        return true;
    plain = strndup(target, size);
    *out = plain;
    if (!plain)
        return comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", target);
    plain = strrchr(plain, '/') ? strrchr(plain, '/') + 1 : plain;
    if (strcmp(plain, ".") == 0 || strcmp(plain, "..") == 0)
        return comma_fail(err, COMMA_E_INPUT, "%s: no name for a directory", target);
    return true;
}

/* "parent/.name.1a2b3c4d" */
static char *hidden_name(const char *target, struct comma_error *err)
{
    const char *slash = strrchr(target, '/');
    const int parent = slash ? (int)(slash - target) + 1 : 0;
    uint32_t random;
    char *path = NULL;

    if (getrandom(&random, sizeof(random), 0) != sizeof(random) ||
        asprintf(&path, "%.*s.%.200s.%08x", parent, target, target + parent, random) < 0) {
        comma_fail(err, COMMA_E_NOMEM, "%s: out of memory", target);
        return NULL;
    }
    return path;
}

static bool make_hidden(struct comma_staging *s, struct comma_error *err)
{
    for (int i = 0; i < MAX_TRIES; i++) {
        char *path = hidden_name(s->target, err);

        if (!path)
            return false;
        if (mkdir(path, 0777) == 0) {
            s->dir = path;
            return true;
        }
        if (errno != EEXIST) {
            comma_fail(err, COMMA_E_IO, "%s cannot be made beside it: %s", path, strerror(errno));
            free(path);
            return comma_fail_within(err, "%s", s->target);
        }
        free(path);
    }
    return comma_fail(err, COMMA_E_IO, "%s: no free name beside it", s->target);
}

bool comma_staging_begin(const char *target, bool force, struct comma_staging *out, struct comma_error *err)
{
    struct comma_staging s = { 0 };

    if (!resolve(target, &s.target, err) || !check_target(&s, force, err) || !make_hidden(&s, err)) {
        comma_staging_abandon(&s);
        return false;
    }
    *out = s;
    return true;
}

/* ---- filling it ---- */

bool comma_staging_mkdir(struct comma_staging *s, const char *name, struct comma_error *err)
{
    char *path = comma_path_join(s->dir, name, err);
    const bool ok = path && (mkdir(path, 0777) == 0 || io_failed(path, err));

    free(path);
    return ok;
}

bool comma_staging_create(struct comma_staging *s, const char *name, int *fd, char **path, struct comma_error *err)
{
    char *full = comma_path_join(s->dir, name, err);

    if (!full)
        return false;
    *fd = open(full, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (*fd < 0) {
        io_failed(full, err);
        free(full);
        return false;
    }
    *path = full;
    return true;
}

bool comma_staging_close(int fd, const char *path, struct comma_error *err)
{
    bool ok = fsync(fd) == 0 || io_failed(path, err);

    if (close(fd) != 0 && ok)
        ok = io_failed(path, err);
    return ok;
}

bool comma_staging_write(struct comma_staging *s, const char *name, struct comma_text text, struct comma_error *err)
{
    char *path;
    bool ok = true;
    int fd;

    if (!comma_staging_create(s, name, &fd, &path, err))
        return false;
    while (ok && text.size > 0) {
        const ssize_t n = write(fd, text.data, text.size);

        if (n < 0)
            ok = errno == EINTR || io_failed(path, err);
        else
            text = (struct comma_text){ text.data + n, text.size - (size_t)n };
    }
    if (!comma_staging_close(fd, path, ok ? err : NULL))
        ok = false;
    free(path);
    return ok;
}

/* ---- putting it in its place ---- */

static bool sync_directory(const char *path, struct comma_error *err)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* Some file systems cannot: EINVAL. */
    const bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);

    if (!ok)
        io_failed(path, err);
    if (fd >= 0)
        close(fd);
    return ok;
}

static int sync_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)at;
    return type == FTW_DP && !sync_directory(path, NULL) ? -1 : 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static bool remove_tree(const char *path)
{
    return nftw(path, remove_one, MAX_OPEN_FDS, FTW_DEPTH | FTW_PHYS) == 0;
}

static void sync_parent(const char *path)
{
    char *copy = strdup(path), *slash = copy ? strrchr(copy, '/') : NULL;

    if (slash)
        slash[slash == copy ? 1 : 0] = '\0';
    if (copy)
        (void)!sync_directory(slash ? copy : ".", NULL);
    free(copy);
}

/* Where two names cannot be exchanged in one step: the old one steps aside, and back if its place is not taken. */
static bool exchange_by_two(struct comma_staging *s, char **old, struct comma_error *err)
{
    char *aside = hidden_name(s->target, err);
    bool ok;

    if (!aside)
        return false;
    if (rename(s->target, aside) != 0) {
        free(aside);
        return io_failed(s->target, err);
    }
    ok = rename(s->dir, s->target) == 0;
    if (!ok) {
        io_failed(s->target, err);
        if (rename(aside, s->target) != 0)
            comma_fail(err, COMMA_E_IO, "%s: cannot be written, and what was there is now %s: %s", s->target, aside,
                       strerror(errno));
        free(aside);
        return false;
    }
    *old = aside;
    return true;
}

/* *old: what was there, under the name that it now has. */
static bool take_place(struct comma_staging *s, char **old, struct comma_error *err)
{
    *old = NULL;
    if (!s->replace) /* an empty directory gives way, anything that came meanwhile does not */
        return rename(s->dir, s->target) == 0 || io_failed(s->target, err);
    if (renameat2(AT_FDCWD, s->dir, AT_FDCWD, s->target, RENAME_EXCHANGE) == 0) {
        *old = s->dir;
        s->dir = NULL;
        return true;
    }
    if (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP)
        return io_failed(s->target, err);
    return exchange_by_two(s, old, err);
}

bool comma_staging_commit(struct comma_staging *s, char **leftover, struct comma_error *err)
{
    char *old;

    *leftover = NULL;
    if (nftw(s->dir, sync_one, MAX_OPEN_FDS, FTW_DEPTH | FTW_PHYS) != 0)
        return io_failed(s->dir, err);
    if (!take_place(s, &old, err))
        return false;
    free(s->dir);
    s->dir = NULL;
    sync_parent(s->target); /* it is there: a failure from here on must not take it away again */
    if (old && !remove_tree(old))
        *leftover = old;
    else
        free(old);
    return true;
}

void comma_staging_abandon(struct comma_staging *s)
{
    if (s->dir)
        (void)remove_tree(s->dir);
    free(s->dir);
    free(s->target);
    *s = (struct comma_staging){ 0 };
}
