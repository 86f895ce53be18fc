/* SPDX-License-Identifier: MIT */
/* The two renames that publish an output, with ways around file systems that lack them. Both return 0 or an errno. */
#ifndef LF_IO_RENAME_H
#define LF_IO_RENAME_H

#include <stdbool.h>

/* from becomes to, names in the directory dir; EEXIST when to is there. */
int lf_rename_new(int dir, const char *from, const char *to, bool is_directory);

/*
 * The directories from and to swap their names. Where the file system does not swap, as NFS, it is done in steps, between which to is
 * not there and what it was is called from with LF_RENAME_ASIDE at its end.
 */
#define LF_RENAME_ASIDE "~"
int lf_rename_exchange(int dir, const char *from, const char *to);

#endif
