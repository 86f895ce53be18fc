/* SPDX-License-Identifier: MIT */
/* A plain main for a fuzz target: runs it once on every file named, or in a directory named, on the command line. */
#include "fuzz/fuzz.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The bytes in a block of exactly their size, so that a sanitizer sees the first byte read past the end. */
static uint8_t *read_whole(const char *path, size_t size)
{
    FILE *const file = fopen(path, "rb");
    uint8_t *const data = malloc(size ? size : 1);
    const size_t got = file && data ? fread(data, 1, size, file) : 0;

    if (file)
        fclose(file);
    if (!file || !data || got != size) {
        free(data);
        return NULL;
    }
    return data;
}

static int replay(const char *path);

static int replay_directory(const char *path)
{
    DIR *const dir = opendir(path);
    int n_failed = 0;

    if (!dir) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    for (const struct dirent *entry; (entry = readdir(dir));) {
        char name[4096];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof name, "%s/%s", path, entry->d_name);
        n_failed += replay(name);
    }
    closedir(dir);
    return n_failed;
}

static int replay(const char *path)
{
    struct stat st = {0}; // MemorySanitizer does not know that stat() fills it
    const bool found = stat(path, &st) == 0;
    uint8_t *data;

    if (found && S_ISDIR(st.st_mode))
        return replay_directory(path);
    data = found ? read_whole(path, (size_t)st.st_size) : NULL;
    if (!data) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return 1;
    }
    LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
    free(data);
    return 0;
}

int main(int argc, char **argv)
{
    int n_failed = 0;

    for (int i = 1; i < argc; i++)
        n_failed += replay(argv[i]);
    return n_failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
