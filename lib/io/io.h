/* SPDX-License-Identifier: MIT */
/* Files: map, read, write atomically. This room does not know what the bytes mean. */
#ifndef LF_IO_H
#define LF_IO_H

#include "lorafmt/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A read-only mapping of a whole regular file. An empty file has bytes == NULL and size 0. */
typedef struct lf_map {
    const uint8_t *bytes;
    uint64_t size;
} lf_map;

/* LIMIT for a file of more than max_size bytes. */
lorafmt_status lf_map_open(const char *path, bool copy, uint64_t max_size, lf_map *out, lorafmt_error *err);
lorafmt_status lf_map_file(int fd, const char *path, uint64_t size, lf_map *out, lorafmt_error *err); /* of an open one */

/* The same in memory of the process, which later changes of the file do not reach: read and not mapped. */
lorafmt_status lf_map_copy(int fd, const char *path, uint64_t size, lf_map *out, lorafmt_error *err);

void lf_map_close(lf_map *map); /* also for an all-zero one */

/* Open for reading; refuses what is not a regular file (a directory, a FIFO, a device). *size may be NULL. */
lorafmt_status lf_file_open(const char *path, int *fd, uint64_t *size, lorafmt_error *err);

/* Bytes of an open file, which must be a regular one. */
lorafmt_status lf_file_size(int fd, const char *path, uint64_t *size, lorafmt_error *err);

/* Exactly size bytes at offset. An early end is CORRUPT ("the file was truncated while being read"). */
lorafmt_status lf_file_read(int fd, const char *path, uint64_t offset, void *dst, size_t size, lorafmt_error *err);
lorafmt_status lf_file_write(int fd, const char *path, uint64_t offset, const void *src, size_t size, lorafmt_error *err);

/*
 * Open for reading and writing, and lock it against whoever opens it so: IO with EWOULDBLOCK when another one has it, or when path
 * leads to another file by now. The lock goes with the last close.
 */
lorafmt_status lf_file_open_locked(const char *path, int *fd, uint64_t *size, lorafmt_error *err);
void lf_file_close(int fd); /* nothing for -1 */

lorafmt_status lf_file_sync(int fd, const char *path, lorafmt_error *err);

/* Take away what was written behind the first `size` bytes, if that can be done. */
void lf_file_cut(int fd, uint64_t size);

/* Give one file the permissions of another. */
lorafmt_status lf_file_copy_mode(int from, int to, const char *path, lorafmt_error *err);

/* An absolute path without links, malloc()ed, to what is there. */
lorafmt_status lf_path_resolve(const char *path, char **out, lorafmt_error *err);

/* The whole of a small file, malloc()ed and NUL-terminated (the NUL is not counted). LIMIT beyond max_size. */
lorafmt_status lf_file_load(const char *path, uint64_t max_size, char **out, size_t *size, lorafmt_error *err);

/* What is at path, links followed. Nothing there is LF_PATH_NONE. */
typedef enum lf_path_type { LF_PATH_NONE, LF_PATH_FILE, LF_PATH_DIRECTORY, LF_PATH_OTHER } lf_path_type;
lf_path_type lf_path_type_of(const char *path);

/* The same where not being able to look is an error, and not as if nothing were there. */
lorafmt_status lf_path_look(const char *path, lf_path_type *type, lorafmt_error *err);

/* "DIR/NAME", malloc()ed; NULL when out of memory. */
char *lf_path_join(const char *directory, const char *name);

/* The last component without trailing slashes: "a/b/" -> "b". Writes at most size bytes with the NUL. */
void lf_path_base_name(const char *path, char *out, size_t size);

/* Names in a directory but "." and "..", in ascending order of bytes. Freed with lf_names_free(). */
lorafmt_status lf_directory_list(const char *path, char ***names, size_t *n_names, lorafmt_error *err);
void lf_names_free(char **names, size_t n_names);

/*
 * Remove a directory of files and links, a name in the directory parent or a path where that is AT_FDCWD. A link to one is not
 * followed, and is an error. 0, or the errno of what could not be removed.
 */
int lf_directory_remove(int parent, const char *name);

/*
 * An output that is whole or absent: written under a hidden temporary name beside its target, synced, then renamed, then the
 * directory is synced. Without `force` an existing target fails with IO, os_error EEXIST, both at begin and (if it appeared
 * meanwhile) at commit. With `force` a file is replaced by rename, a directory by exchange; a directory is only replaced when
 * it holds nothing but regular files and links (no subdirectories) so that a mistyped path never deletes a tree. Replacing a
 * file by a directory or the reverse is refused.
 */
typedef struct lf_output lf_output;

lorafmt_status lf_output_begin_file(const char *path, bool force, lf_output **out, lorafmt_error *err);
lorafmt_status lf_output_begin_private_file(const char *path, lf_output **out, lorafmt_error *err); /* mode 0600; never forced */
lorafmt_status lf_output_begin_directory(const char *path, bool force, lf_output **out, lorafmt_error *err);

/* The open file of a file output. */
int lf_output_fd(const lf_output *output);

/*
 * Create a file in a directory output. name is a plain name. Closing syncs it, if writing went well so far; otherwise it
 * returns what went wrong, and where that is said to be in name, puts the directory before it.
 */
lorafmt_status lf_output_create(lf_output *output, const char *name, int *fd, lorafmt_error *err);
lorafmt_status lf_output_close(lf_output *output, const char *name, int fd, lorafmt_status so_far, lorafmt_error *err);

/* Create a file in a directory output and reserve size bytes for it; it is opened again, once, to be filled. */
lorafmt_status lf_output_reserve(lf_output *output, const char *name, uint64_t size, lorafmt_error *err);
lorafmt_status lf_output_open_reserved(lf_output *output, const char *name, int *fd, lorafmt_error *err);

/* Fails when the file system says that it has no room for size bytes more, for those that cannot reserve it. */
lorafmt_status lf_output_check_space(const lf_output *output, uint64_t size, lorafmt_error *err);

/* A small file in a directory output: created, written and closed. */
lorafmt_status lf_output_put(lf_output *output, const char *name, const void *bytes, size_t size, lorafmt_error *err);

/*
 * Where a member of a directory output is until commit, malloc()ed: for writers of whole directories, which then lie in it and are
 * not synced by it. NULL when out of memory.
 */
char *lf_output_member(const lf_output *output, const char *name);

/* The path for messages: the target. */
const char *lf_output_path(const lf_output *output);

/*
 * Ends the output: commit publishes it, abort removes what was written. Both free it; commit aborts when it fails. NULL is fine
 * for abort. When commit says IO after the rename (the directory cannot be synced, an old directory not be removed) the text
 * says so and the new output is there, whole.
 */
lorafmt_status lf_output_commit(lf_output *output, lorafmt_error *err);
void lf_output_abort(lf_output *output);

/* Make fd size bytes long and reserve the disk, so that a full one is found before the work. Does nothing where unsupported. */
lorafmt_status lf_file_reserve(int fd, const char *path, uint64_t size, lorafmt_error *err);

/*
 * Bring a range of what was written to the disk, so that syncing the file has little left to do: unlike that, many short
 * calls of this let a signal through. Does nothing where unsupported.
 */
lorafmt_status lf_file_flush(int fd, const char *path, uint64_t offset, uint64_t size, lorafmt_error *err);

/* Have the kernel begin with that, and do not wait. Does nothing where unsupported. */
lorafmt_status lf_file_start_flush(int fd, const char *path, uint64_t offset, uint64_t size, lorafmt_error *err);

/* Copy size bytes between files, in the kernel where it can. */
lorafmt_status lf_file_copy(int src, const char *src_path, uint64_t src_offset, int dst, const char *dst_path,
                            uint64_t dst_offset, uint64_t size, lorafmt_error *err);

#endif
