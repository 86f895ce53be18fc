/* SPDX-License-Identifier: MIT */
#include "tools/path.h"

#include "tools/command.h"
#include "tools/message.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool path_exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

bool path_is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool path_parent_exists(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *parent = slash ? strndup(path, (size_t)(slash - path) + 1) : NULL;
    const bool exists = !slash || (parent && path_is_directory(parent));

    free(parent);
    return exists;
}

bool path_is_safetensors(const char *path)
{
    static const char suffix[] = ".safetensors";
    const size_t n = strlen(path);

    return n >= sizeof suffix - 1 && strcmp(path + n - (sizeof suffix - 1), suffix) == 0;
}

static void cut_trailing_slashes(char *path)
{
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/')
        path[--n] = '\0';
}

static char *join(const char *directory, const char *name)
{
    const size_t size = strlen(directory) + strlen(name) + 2;
    char *path = malloc(size);

    if (path)
        snprintf(path, size, "%s/%s", directory, name);
    return path;
}

/* The absolute path; of what does not exist, that of the nearest parent that does, with the rest as written. */
static char *resolve(const char *path)
{
    char *copy, *slash, *parent, *real = realpath(path, NULL);

    if (real || !(copy = strdup(path)))
        return real;
    cut_trailing_slashes(copy);
    slash = strrchr(copy, '/');
    if (slash == copy || !*copy) {
        free(copy);
        return strdup(path);
    }
    if (slash)
        *slash = '\0';
    parent = slash ? resolve(copy) : realpath(".", NULL);
    real = parent ? join(parent, slash ? slash + 1 : copy) : NULL;
    free(parent);
    free(copy);
    return real;
}

int path_within(const char *inner, const char *outer, bool *within)
{
    char *in = resolve(inner), *out = resolve(outer);
    const bool known = in && out;

    *within = false;
    if (known) {
        const size_t n = strcmp(out, "/") ? strlen(out) : 0;
        *within = !strncmp(in, out, n) && (in[n] == '/' || !in[n]);
    }
    free(in);
    free(out);
    return known ? EXIT_DONE : message_error("%s: cannot find out whether it lies in %s", inner, outer);
}

int path_check_output(const char *verb, const char *base, const char *output)
{
    bool within;
    int code;

    if (path_is_directory(base) && path_is_safetensors(output))
        return message_usage(verb, "%s: the base is a directory, so the output is one; give its file as --base to get a file",
                             output);
    if ((code = path_within(output, base, &within)))
        return code;
    if (within)
        return message_usage(verb, "%s: the output must not be the base or inside it, %s", output, base);
    if ((code = path_within(base, output, &within)))
        return code;
    if (within)
        return message_usage(verb, "%s: the output must not hold the base, %s", output, base);
    return EXIT_DONE;
}

static int not_written(const output_file *out, int why)
{
    return message_error("%s: cannot be written: %s%s", out->path, strerror(why), out->after);
}

int output_begin(output_file *out, const char *path, const char *after)
{
    const size_t size = strlen(path) + 32;

    *out = (output_file){.path = path, .after = after, .temporary = malloc(size)};
    if (!out->temporary)
        return not_written(out, ENOMEM);
    snprintf(out->temporary, size, "%s.tmp-%ld", path, (long)getpid());
    if (!(out->stream = fopen(out->temporary, "wx"))) {
        not_written(out, errno);
        free(out->temporary);
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

/* So that the new name survives a crash: 0 or an errno. A file system that cannot sync a directory has its own way. */
static int sync_parent(char *path)
{
    char *slash = strrchr(path, '/');
    int fd, e;

    if (slash)
        slash[slash == path] = '\0';
    fd = open(slash ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    e = fd < 0 || (fsync(fd) && errno != EINVAL) ? errno : 0;
    if (fd >= 0)
        close(fd);
    return e;
}

int output_commit(output_file *out)
{
    bool good = !fflush(out->stream) && !ferror(out->stream) && !fsync(fileno(out->stream));
    int why = errno;

    if (fclose(out->stream) && good) {
        why = errno;
        good = false;
    }
    if (good && rename(out->temporary, out->path)) {
        why = errno;
        good = false;
    }
    if (good && (why = sync_parent(out->temporary))) {
        message_error("%s: is written, but syncing its directory failed: %s", out->path, strerror(why));
        free(out->temporary);
        return EXIT_FAILED;
    }
    if (!good) {
        unlink(out->temporary);
        not_written(out, why);
    }
    free(out->temporary);
    return good ? EXIT_DONE : EXIT_FAILED;
}
