/* SPDX-License-Identifier: MIT */
/* Mount, and take away what the dead left mounted. */
#include "format/base/error.h"
#include "lib/io/io.h"
#include "lib/mount/mount.h"

#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define TYPE "fuse.lorapack"
#define DEVICE "/dev/fuse"
#define READAHEAD_KB 512 // four times what is usual

static const char *find_fusermount(void)
{
    static const char *const paths[] = {"/usr/bin/fusermount3", "/bin/fusermount3", "/usr/local/bin/fusermount3"};

    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (access(paths[i], X_OK) == 0)
            return paths[i];
    return NULL;
}

static lorafmt_status placed(lorafmt_status st, const char *directory, lorafmt_error *err)
{
    lf_error_set_file(err, directory);
    return st;
}

char *lk_place_absolute(const char *path)
{
    char *whole, name[NAME_MAX + 1], *parent, *absolute = NULL;
    size_t n;

    lf_path_base_name(path, name, sizeof name);
    for (n = strlen(path); n && path[n - 1] == '/'; n--)
        ;
    n -= strlen(name);
    parent = n ? strndup(path, n) : strdup(".");
    whole = parent ? realpath(parent, NULL) : NULL;
    if (whole)
        absolute = lf_path_join(whole, name);
    free(whole);
    free(parent);
    return absolute;
}

/* realpath(), which cannot look at a mount whose process died; then its parent must do. */
static char *real_path(const char *directory)
{
    char *path = realpath(directory, NULL);

    return path || errno != ENOTCONN ? path : lk_place_absolute(directory);
}

/* What is mounted on a directory. */
typedef struct mounted {
    char device[32]; // "MAJOR:MINOR"
    char type[64];   // "" when nothing is
} mounted;

/* \ooo is how /proc writes blanks and the like. */
static void unescape(char *text)
{
    char *to = text;

    for (; *text; text++)
        if (text[0] == '\\' && strspn(text + 1, "01234567") >= 3) {
            *to++ = (char)((text[1] - '0') << 6 | (text[2] - '0') << 3 | (text[3] - '0'));
            text += 3;
        } else
            *to++ = *text;
    *to = '\0';
}

/* "36 35 98:0 /root /on options - type source": what is on top of others comes after them. */
static void look_mounted(const char *directory, mounted *out)
{
    FILE *table = fopen("/proc/self/mountinfo", "re");
    char *line = NULL;
    size_t size = 0;

    *out = (mounted){{0}, {0}};
    while (table && getline(&line, &size, table) > 0) {
        const char *type = strstr(line, " - ");
        char device[sizeof out->device];
        int at = 0;
        if (!type || sscanf(line, "%*d %*d %31s %*s %n", device, &at) != 1 || !at)
            continue;
        line[at + (int)strcspn(line + at, " ")] = '\0';
        unescape(line + at);
        if (strcmp(line + at, directory) == 0 && sscanf(type + 3, "%63s", out->type) == 1)
            memcpy(out->device, device, sizeof device);
    }
    free(line);
    if (table)
        fclose(table);
}

static int run_fusermount(const char *directory)
{
    char name[] = "fusermount3", unmount[] = "-uz", *path = strdup(directory), *none[] = {NULL};
    char *const arguments[] = {name, unmount, path, NULL};
    const char *program = find_fusermount();
    int status = -1;
    pid_t pid;

    if (program && path && posix_spawn(&pid, program, NULL, NULL, arguments, none) == 0)
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    free(path);
    return status;
}

static lorafmt_status take_away(const char *directory, lorafmt_error *err)
{
    mounted there;

    look_mounted(directory, &there);
    if (strcmp(there.type, TYPE) != 0)
        return placed(lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL,
                              "a mount of type %s whose process died is there: unmount it", *there.type ? there.type : "unknown"),
                      directory, err);
    if (umount2(directory, MNT_DETACH) && run_fusermount(directory))
        return placed(lf_fail(err, LORAFMT_IO, LORAFMT_NO_OFFSET, NULL,
                              "an earlier mount whose process died is there, and cannot be unmounted: fusermount3 -u %s",
                              directory),
                      directory, err);
    return LORAFMT_OK;
}

static lorafmt_status check_empty(const char *directory, lorafmt_error *err)
{
    mounted there;
    char **names;
    size_t n;

    look_mounted(directory, &there);
    if (strcmp(there.type, TYPE) == 0)
        return placed(lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "scenarios are mounted here already"), directory,
                      err);
    LF_TRY(lf_directory_list(directory, &names, &n, err));
    lf_names_free(names, n);
    return n ? placed(lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "must be empty: what is in it would be hidden"),
                      directory, err)
             : LORAFMT_OK;
}

static lorafmt_status find_place(const char *path, lorafmt_error *err)
{
    struct stat st;

    if (stat(path, &st) && errno == ENOTCONN)
        LF_TRY(take_away(path, err));
    if (stat(path, &st))
        return lf_fail_os(err, errno, path, "cannot look at the directory");
    if (!S_ISDIR(st.st_mode))
        return placed(lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL, "must be a directory"), path, err);
    return check_empty(path, err);
}

lorafmt_status lk_place_find(const char *directory, char **out, lorafmt_error *err)
{
    lorafmt_status st;
    char *path = real_path(directory);

    *out = NULL;
    if (!path)
        return errno == ENOENT ? placed(lf_fail(err, LORAFMT_NOT_FOUND, LORAFMT_NO_OFFSET, NULL,
                                                "no such directory: make an empty one to mount on"),
                                        directory, err)
                               : lf_fail_os(err, errno, directory, "cannot look at the directory");
    if ((st = find_place(path, err))) {
        free(path);
        return st;
    }
    *out = path;
    return LORAFMT_OK;
}

/* libfuse says why on a log of the whole process. */
static char last_words[256];

static void keep_words(enum fuse_log_level level, const char *format, va_list args)
{
    size_t n;

    (void)level;
    vsnprintf(last_words, sizeof last_words, format, args);
    for (n = strlen(last_words); n && last_words[n - 1] == '\n'; n--)
        last_words[n - 1] = '\0';
}

static lorafmt_status mount_session(lorakit_mount *mount, struct fuse_args *args, lorafmt_error *err)
{
    fuse_set_log_func(keep_words);
    last_words[0] = '\0';
    mount->session = fuse_session_new(args, &lk_answers, sizeof lk_answers, mount);
    mount->mounted = mount->session && fuse_session_mount(mount->session, mount->directory) == 0;
    if (mount->mounted)
        return LORAFMT_OK;
    return placed(lf_fail(err, LORAFMT_IO, LORAFMT_NO_OFFSET, NULL, "cannot mount: %s",
                          last_words[0] ? last_words : "libfuse does not say why"),
                  mount->directory, err);
}

void lk_place_set_readahead(const char *directory)
{
    char path[96];
    mounted there;
    FILE *file;

    look_mounted(directory, &there);
    snprintf(path, sizeof path, "/sys/class/bdi/%s/read_ahead_kb", there.device);
    file = *there.device ? fopen(path, "we") : NULL;
    if (!file)
        return; // who is not root may not
    fprintf(file, "%d\n", READAHEAD_KB);
    fclose(file);
}

lorafmt_status lk_place_mount(lorakit_mount *mount, lorafmt_error *err)
{
    const lorakit_mount_options *o = &mount->options;
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    char options[256];
    lorafmt_status st;

    if (access(DEVICE, F_OK))
        return placed(lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, NULL,
                              "is not there, so that nothing can be mounted: `modprobe fuse`, or give it to the container; "
                              "`lorapack build` writes the models instead"),
                      DEVICE, err);
    snprintf(options, sizeof options, "ro,noexec,nosuid,nodev,default_permissions,fsname=lorapack,subtype=lorapack%s%s",
             o->allow_other ? ",allow_other" : "", o->unmount_on_death && find_fusermount() ? ",auto_unmount" : "");
    if (fuse_opt_add_arg(&args, "lorapack") || fuse_opt_add_arg(&args, "-o") || fuse_opt_add_arg(&args, options))
        st = lf_no_memory(err);
    else
        st = mount_session(mount, &args, err);
    fuse_opt_free_args(&args);
    return st;
}
