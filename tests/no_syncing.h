/* SPDX-License-Identifier: MIT */
/* A test that need not wait for the disk; it is linked with --wrap of both functions. */
#ifndef TESTS_NO_SYNCING_H
#define TESTS_NO_SYNCING_H

#include <sys/types.h>

// NOLINTBEGIN(bugprone-reserved-identifier): names that the linker makes
int __wrap_fsync(int fd);
int __wrap_sync_file_range(int fd, off_t at, off_t size, unsigned flags);

int __wrap_fsync(int fd)
{
    (void)fd;
    return 0;
}

int __wrap_sync_file_range(int fd, off_t at, off_t size, unsigned flags)
{
    (void)fd, (void)at, (void)size, (void)flags;
    return 0;
}
// NOLINTEND(bugprone-reserved-identifier)

#endif
