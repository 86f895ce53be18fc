/* SPDX-License-Identifier: MIT */
/* Mount, and take away what the dead left mounted. */
#include "format/base/error.h"
#include "lib/io/io.h"
#include "lib/mount/mount.h"

#include <errno.h>
#include <limits.h>
#include <mntent.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define TYPE "fuse.lorapack"
#define DEVICE "/dev/fuse"

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

/* realpath(), which cannot look at a mount whose process died; then its parent must do. */
static char *absolute_path(const char *directory)
{
    char *whole = realpath(directory, NULL), name[NAME_MAX + 1], *parent, *path = NULL;
    size_t n;

    if (whole || errno != ENOTCONN)
        return whole;
    lf_path_base_name(directory, name, sizeof name);
    for (n = strlen(directory); n && directory[n - 1] == '/'; n--)
        ;
    n -= strlen(name);
    parent = n ? strndup(directory, n) : strdup(".");
    whole = parent ? realpath(parent, NULL) : NULL;
    if (whole)
        path = lf_path_join(whole, name);
    free(whole);
    free(parent);
    return path;
}

/* What is mounted on top there: its type, or "" for nothing. */
static void type_mounted(const char *directory, char *type, size_t size)
{
    FILE *table = setmntent("/proc/self/mounts", "r");
    const struct mntent *entry;

    *type = '\0';
    while (table && (entry = getmntent(table)))
        if (strcmp(entry->mnt_dir, directory) == 0)
            snprintf(type, size, "%s", entry->mnt_type);
    if (table)
        endmntent(table);
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
    char type[64];

    type_mounted(directory, type, sizeof type);
    if (strcmp(type, TYPE) != 0)
        return placed(lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, NULL,
                              "a mount of type %s whose process died is there: unmount it", *type ? type : "unknown"),
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
    char **names, type[64];
    size_t n;

    type_mounted(directory, type, sizeof type);
    if (strcmp(type, TYPE) == 0)
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
    char *path = absolute_path(directory);

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
