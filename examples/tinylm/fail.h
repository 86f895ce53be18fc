/* SPDX-License-Identifier: MIT */
/* Failures of this program have the form of the library's: one sentence with its place. */
#ifndef TINYLM_FAIL_H
#define TINYLM_FAIL_H

#include <lorafmt/error.h>

/* Fill *err and return status. file and field may be "". */
lorafmt_status fail(lorafmt_error *err, lorafmt_status status, const char *file, const char *field, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* The same with errno's reason, for a file that a system call refused. */
lorafmt_status fail_io(lorafmt_error *err, const char *file);

lorafmt_status fail_memory(lorafmt_error *err);

#endif
