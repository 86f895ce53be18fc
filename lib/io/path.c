/* SPDX-License-Identifier: MIT */
#include "lib/io/io.h"

#include "format/base/error.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct names {
    char **name;
    size_t n, capacity;
} names;

lorafmt_status lf_path_look(const char *path, lf_path_type *type, lorafmt_error *err)
{
    struct stat st;

    *type = LF_PATH_NONE;
    if (stat(path, &st) == 0)
        *type = S_ISREG(st.st_mode) ? LF_PATH_FILE : S_ISDIR(st.st_mode) ? LF_PATH_DIRECTORY : LF_PATH_OTHER;
    else if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP) // a link may lead nowhere or to itself
        return lf_fail_os(err, errno, path, "cannot look at it");
    return LORAFMT_OK;
}

lf_path_type lf_path_type_of(const char *path)
{
    lf_path_type type;

    return lf_path_look(path, &type, NULL) == LORAFMT_OK ? type : LF_PATH_NONE;
}

bool lf_path_is_same(const char *path, const char *other)
{
    struct stat a, b;

    return stat(path, &a) == 0 && stat(other, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

char *lf_path_join(const char *directory, const char *name)
{
    const size_t n = strlen(directory), size = n + strlen(name) + 2;
    char *path = malloc(size);

    if (path)
        snprintf(path, size, "%s%s%s", directory, n && directory[n - 1] == '/' ? "" : "/", name);
    return path;
}

void lf_path_base_name(const char *path, char *out, size_t size)
{
    size_t end = strlen(path), begin;

    while (end && path[end - 1] == '/')
        end--;
    for (begin = end; begin && path[begin - 1] != '/'; begin--)
        ;
    snprintf(out, size, "%.*s", (int)(end - begin), path + begin);
}

static bool names_add(names *list, const char *name)
{
    char *copy;

    if (list->n == list->capacity) {
        const size_t capacity = 2 * list->capacity + 16;
        char **grown = realloc(list->name, capacity * sizeof *grown);
        if (!grown)
            return false;
        list->name = grown;
        list->capacity = capacity;
    }
    copy = strdup(name);
    if (copy)
        list->name[list->n++] = copy;
    return copy != NULL;
}

static int by_bytes(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

static lorafmt_status read_names(DIR *dir, const char *path, names *list, lorafmt_error *err)
{
    const struct dirent *entry;

    while ((errno = 0, entry = readdir(dir)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && !names_add(list, entry->d_name))
            return lf_no_memory(err);
    return errno ? lf_fail_os(err, errno, path, "reading the directory") : LORAFMT_OK;
}

lorafmt_status lf_directory_list(const char *path, char ***out, size_t *n_names, lorafmt_error *err)
{
    DIR *dir = opendir(path);
    names list = {0};
    lorafmt_status st;

    *out = NULL;
    *n_names = 0;
    if (!dir)
        return lf_fail_os(err, errno, path, "cannot open the directory");
    st = read_names(dir, path, &list, err);
    closedir(dir);
    if (st != LORAFMT_OK) {
        lf_names_free(list.name, list.n);
        return st;
    }
    if (list.n)
        qsort(list.name, list.n, sizeof *list.name, by_bytes);
    *out = list.name;
    *n_names = list.n;
    return LORAFMT_OK;
}

void lf_names_free(char **name, size_t n_names)
{
    for (size_t i = 0; i < n_names; i++)
        free(name[i]);
    free(name);
}
