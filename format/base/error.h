/* SPDX-License-Identifier: MIT */
/* Filling a lorafmt_error: every failed check is one `return lf_fail(...)`. */
#ifndef LF_BASE_ERROR_H
#define LF_BASE_ERROR_H

#include "lorafmt/error.h"

/* Fill *err (which may be NULL) and return status. offset may be LORAFMT_NO_OFFSET; field may be NULL. */
__attribute__((format(printf, 5, 6))) lorafmt_status lf_fail(lorafmt_error *err, lorafmt_status status, uint64_t offset,
                                                             const char *field, const char *format, ...);

/* A failed system call: LORAFMT_IO (NOT_FOUND for ENOENT and ENOTDIR), "format: strerror". file may be NULL. */
__attribute__((format(printf, 4, 5))) lorafmt_status lf_fail_os(lorafmt_error *err, int os_error, const char *file,
                                                                const char *format, ...);

lorafmt_status lf_no_memory(lorafmt_error *err);

/* Add what can be done to a failure that was just reported; returns its status. */
lorafmt_status lf_hint(lorafmt_error *err, lorafmt_status status, lorafmt_hint hint);

/* Were these options made for this version of the API? found is their struct_size, wanted their size here. */
lorafmt_status lf_check_struct_size(size_t found, size_t wanted, lorafmt_error *err);

/* Say which file a failure is about, unless that is known already. */
void lf_error_set_file(lorafmt_error *err, const char *path);

/* For functions that own nothing: return on failure. */
#define LF_TRY(expr)                                                                                                             \
    do {                                                                                                                         \
        const lorafmt_status lf_try_status = (expr);                                                                             \
        if (lf_try_status != LORAFMT_OK)                                                                                         \
            return lf_try_status;                                                                                                \
    } while (0)

#endif
