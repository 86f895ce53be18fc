/* SPDX-License-Identifier: MIT */
#include "fail.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

lorafmt_status fail(lorafmt_error *err, lorafmt_status status, const char *file, const char *field, const char *format, ...)
{
    va_list values;

    memset(err, 0, sizeof *err);
    err->status = status;
    err->offset = LORAFMT_NO_OFFSET;
    snprintf(err->file, sizeof err->file, "%s", file);
    snprintf(err->field, sizeof err->field, "%s", field);
    va_start(values, format);
    vsnprintf(err->text, sizeof err->text, format, values);
    va_end(values);
    return status;
}

lorafmt_status fail_io(lorafmt_error *err, const char *file)
{
    const int reason = errno;

    fail(err, reason == ENOENT ? LORAFMT_NOT_FOUND : LORAFMT_IO, file, "", "%s", strerror(reason));
    err->os_error = err->status == LORAFMT_IO ? reason : 0;
    return err->status;
}

lorafmt_status fail_memory(lorafmt_error *err)
{
    return fail(err, LORAFMT_NO_MEMORY, "", "", "out of memory");
}
