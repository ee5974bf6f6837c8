/* SPDX-License-Identifier: MIT */
/* replay_main.c - runs a fuzz target over the files of the directories given, without libFuzzer: in every build the
 * corpus is a test, under the sanitizers too. */
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

/* In memory of exactly its size, so that a read behind the end is seen. */
static bool replay_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    uint8_t *data = NULL;
    bool ok = false;

    if (f && fstat(fileno(f), &st) == 0 && (data = malloc((size_t)st.st_size)) &&
        fread(data, 1, (size_t)st.st_size, f) == (size_t)st.st_size) {
        LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
        ok = true;
    } else {
        perror(path);
    }
    free(data);
    if (f)
        fclose(f);
    return ok;
}

/* Number of files run; -1 if one could not be read. */
static int replay_directory(const char *dir)
{
    DIR *d = opendir(dir);
    const struct dirent *entry;
    char path[4096];
    int n = 0;

    if (!d) {
        perror(dir);
        return -1;
    }
    while (n >= 0 && (entry = readdir(d))) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        n = replay_file(path) ? n + 1 : -1;
    }
    closedir(d);
    return n;
}

int main(int argc, char **argv)
{
    int total = 0;

    for (int i = 1; i < argc; i++) {
        const int n = replay_directory(argv[i]);

        if (n < 0)
            return 1;
        total += n;
    }
    printf("%d inputs\n", total);
    return total > 0 ? 0 : 1; /* an empty corpus proves nothing */
}
