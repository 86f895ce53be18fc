/* SPDX-License-Identifier: MIT */
/* spec/manifest.md 3.1: what paths mean, and that they stay beneath the roots. */
#include "lib/scenario/manifest.h"

#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/io/io.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CACHE ".cache/huggingface/hub"
#define MAX_ROOTS 64

/* --- text --- */

const char *lk_manifest_join(lk_manifest *m, const char *relative)
{
    const char *directory = m->shown.directory;

    if (strcmp(directory, ".") == 0)
        return relative;
    return lf_arena_printf(&m->arena, "%s%s%s", directory, lf_ends_with(directory, "/") ? "" : "/", relative);
}

/* "~/x" is the user's, "/x" itself, "x" beneath the manifest's directory. */
static lorafmt_status expand(lk_manifest *m, const lk_yaml *node, const char **out, lorafmt_error *err)
{
    const char *text;

    *out = NULL;
    LF_TRY(lk_yaml_nonempty(node, &text, err));
    if (text[0] == '~' && text[1] != '/')
        return lk_yaml_fail(node, LORAFMT_CORRUPT, err,
                            "begins with ~; only ~/, your own directory, is understood (./~ is a file)");
    if (text[0] == '~' && !m->home)
        return lk_yaml_fail(node, LORAFMT_CORRUPT, err, "begins with ~/, but the user has no directory");
    if (text[0] == '~')
        *out = lf_arena_printf(&m->arena, "%s%s", m->home, text + 1);
    else
        *out = text[0] == '/' ? text : lk_manifest_join(m, text);
    return *out ? LORAFMT_OK : lf_no_memory(err);
}

/* Append the components of path to real, which is absolute and has room for them and a slash. */
static void append_normalised(char *real, const char *path)
{
    while (*path) {
        const size_t n = strcspn(path, "/"), end = strcmp(real, "/") ? strlen(real) : 0;
        if (n == 2 && memcmp(path, "..", 2) == 0) {
            char *slash = strrchr(real, '/');
            slash[slash == real] = '\0';
        } else if (n && !(n == 1 && *path == '.')) {
            real[end] = '/';
            memcpy(real + end + 1, path, n);
            real[end + 1 + n] = '\0';
        }
        path += n + (path[n] == '/');
    }
}

static bool is_beneath(const char *path, const char *root)
{
    const size_t n = strlen(root);

    return strncmp(path, root, n) == 0 && (path[n] == '\0' || path[n] == '/' || root[n - 1] == '/');
}

/* --- links --- */

/* Bytes of the first n components of a path. */
static size_t beginning(const char *path, size_t n)
{
    size_t end = 0;

    for (; n; n--) {
        end += strspn(path + end, "/");
        end += strcspn(path + end, "/");
    }
    return end;
}

static size_t count_components(const char *path)
{
    size_t n = 0;

    for (path += strspn(path, "/"); *path; path += strspn(path, "/")) {
        path += strcspn(path, "/");
        n++;
    }
    return n;
}

/* Where the first n bytes of a path lead, absolute; malloc()ed. NULL with errno. */
static char *real_part(char *path, size_t n)
{
    const char next = path[n];
    char *real;

    if (n == 0)
        return realpath(*path == '/' ? "/" : ".", NULL);
    path[n] = '\0';
    real = realpath(path, NULL);
    path[n] = next;
    return real;
}

/*
 * The same of the longest beginning that exists, which has *length bytes. It is found by halving: a path may have thousands of components,
 * and looking up each beginning takes time for all before it.
 */
static char *real_beginning(char *path, size_t *length)
{
    size_t there = 0, missing = count_components(path) + 1;
    char *real = real_part(path, 0);

    for (size_t n = missing - 1; real && n > there; n = there + (missing - there) / 2) {
        char *longer = real_part(path, beginning(path, n));
        const int os_error = longer ? 0 : errno;
        if (!longer && (os_error == ENOENT || os_error == ENOTDIR)) {
            missing = n;
            continue;
        }
        free(real);
        real = longer;
        there = n;
        errno = os_error;
    }
    *length = beginning(path, there);
    return real;
}

/* Where a path leads, absolute: its links resolved as far as it exists, the rest as it is written; malloc()ed. */
static lorafmt_status resolve(const char *path, char **out, bool *exists, lorafmt_error *err)
{
    char *copy = strdup(path);
    size_t n = 0;
    char *real = copy ? real_beginning(copy, &n) : NULL;
    const int os_error = errno;

    *out = NULL;
    free(copy);
    if (!real)
        return lf_fail_os(err, os_error, path, "cannot find where it leads");
    *exists = !path[n + strspn(path + n, "/")];
    *out = realloc(real, strlen(real) + strlen(path + n) + 2);
    if (!*out) {
        free(real);
        return lf_no_memory(err);
    }
    append_normalised(*out, path + n);
    return LORAFMT_OK;
}

/* --- roots --- */

static lorafmt_status fail_outside(const lorakit_manifest *manifest, const char *real, lorafmt_error *err)
{
    const char *slash = strrchr(real, '/');
    char roots[512] = "";

    for (size_t i = 0; i < manifest->n_roots; i++) {
        const size_t n = strlen(roots);
        snprintf(roots + n, sizeof roots - n, "%s%s", i ? ", " : "", manifest->roots[i]);
    }
    return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL,
                   "leads to %.200s, which is beneath none of the roots (%s); add %.*s to roots if that is meant", real, roots,
                   slash == real ? 1 : (int)(slash - real), real);
}

static lorafmt_status check_beneath(const lorakit_manifest *manifest, const char *path, bool *exists, lorafmt_error *err)
{
    lorafmt_status st;
    bool beneath = false;
    char *real;

    LF_TRY(resolve(path, &real, exists, err));
    for (size_t i = 0; i < manifest->n_roots && !beneath; i++)
        beneath = is_beneath(real, manifest->roots[i]);
    st = beneath ? LORAFMT_OK : fail_outside(manifest, real, err);
    free(real);
    return st;
}

lorafmt_status lorakit_manifest_check_path(const lorakit_manifest *manifest, const char *path, lorafmt_error *err)
{
    lorafmt_status st;
    bool exists;

    st = check_beneath(manifest, path, &exists, err);
    if (st == LORAFMT_OK && !exists)
        st = lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, NULL, "is not there");
    if (st)
        lf_error_set_file(err, path);
    return st;
}

lorafmt_status lk_manifest_check_beneath(const lk_manifest *m, const char *path, const lk_yaml *at, lorafmt_error *err)
{
    lorafmt_error why;
    lorafmt_status st;
    bool exists;

    st = check_beneath(&m->shown, path, &exists, &why);
    if (st == LORAFMT_NO_MEMORY)
        return lf_no_memory(err);
    return st ? lk_yaml_fail(at, st == LORAFMT_MISUSE ? LORAFMT_CORRUPT : st, err, "%s", why.text) : LORAFMT_OK;
}

lorafmt_status lk_manifest_read_path(lk_manifest *m, const lk_yaml *node, const char **out, lorafmt_error *err)
{
    LF_TRY(expand(m, node, out, err));
    return lk_manifest_check_beneath(m, *out, node, err);
}

/* Add a directory to the roots, its links resolved, unless it is there. Fails as a system call, about the path. */
static lorafmt_status add_root(lk_manifest *m, const char *path, lorafmt_error *err)
{
    char *real = realpath(path, NULL);
    const int os_error = !real ? errno : lf_path_type_of(real) == LF_PATH_DIRECTORY ? 0 : ENOTDIR;
    const char **end = m->roots + m->shown.n_roots;
    bool known = false;

    for (const char **root = m->roots; root < end && !os_error && !known; root++)
        known = strcmp(*root, real) == 0;
    if (!os_error && !known) {
        *end = lf_arena_strdup(&m->arena, real);
        m->shown.n_roots += *end != NULL;
        known = *end != NULL;
    }
    free(real);
    if (os_error)
        return lf_fail_os(err, os_error, path, "a root must be a directory");
    return known ? LORAFMT_OK : lf_no_memory(err);
}

static lorafmt_status read_root(lk_manifest *m, const lk_yaml *node, lorafmt_error *err)
{
    lorafmt_error why;
    lorafmt_status st;
    const char *path;

    LF_TRY(expand(m, node, &path, err));
    st = add_root(m, path, &why);
    if (st == LORAFMT_NO_MEMORY)
        return lf_no_memory(err);
    return st ? lk_yaml_fail(node, st, err, "%s", why.text) : LORAFMT_OK;
}

static lorafmt_status find_home(lk_manifest *m, lorafmt_error *err)
{
    char buffer[16384];
    struct passwd entry, *found;

    if (getpwuid_r(getuid(), &entry, buffer, sizeof buffer, &found) != 0 || !found || found->pw_dir[0] != '/')
        return LORAFMT_OK;
    m->home = lf_arena_strdup(&m->arena, found->pw_dir);
    return m->home ? LORAFMT_OK : lf_no_memory(err);
}

/* Where the Hugging Face libraries keep models, when that exists. */
static lorafmt_status add_cache(lk_manifest *m, lorafmt_error *err)
{
    const char *path = m->home ? lf_arena_printf(&m->arena, "%s/" CACHE, m->home) : NULL;
    lorafmt_status st;

    if (!path)
        return m->home ? lf_no_memory(err) : LORAFMT_OK;
    st = add_root(m, path, NULL);
    return st == LORAFMT_NO_MEMORY ? lf_no_memory(err) : LORAFMT_OK;
}

lorafmt_status lk_manifest_read_roots(lk_manifest *m, const lk_yaml *node, lorafmt_error *err)
{
    if (node)
        LF_TRY(lk_yaml_sequence(node, err));
    if (node && node->n > MAX_ROOTS)
        return lk_yaml_fail(node, LORAFMT_LIMIT, err, "%zu roots, at most %d", node->n, MAX_ROOTS);
    m->shown.roots = m->roots = lf_arena_alloc(&m->arena, MAX_ROOTS + 2, sizeof *m->roots);
    if (!m->roots)
        return lf_no_memory(err);
    LF_TRY(find_home(m, err));
    LF_TRY(add_root(m, m->shown.directory, err));
    for (size_t i = 0; node && i < node->n; i++)
        LF_TRY(read_root(m, node->value[i], err));
    return add_cache(m, err);
}
