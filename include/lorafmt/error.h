/* SPDX-License-Identifier: MIT */
/**
 * What every fallible function of the library returns, and the text that goes with it.
 * The library never prints, never exits and keeps no last error.
 */
#ifndef LORAFMT_ERROR_H
#define LORAFMT_ERROR_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define LORAFMT_API
#else
#define LORAFMT_API __attribute__((visibility("default")))
#endif

/** Each status is something a caller would do something different about. */
typedef enum lorafmt_status {
    LORAFMT_OK = 0,
    LORAFMT_NOT_LORAFMT, /**< not a file of this kind at all (wrong magic, a Git-LFS pointer, a web page) */
    LORAFMT_UNSUPPORTED, /**< intact, but needs a newer reader or a kind we refuse; the text names it */
    LORAFMT_CORRUPT,     /**< breaks a MUST of its format */
    LORAFMT_LIMIT,       /**< beyond a documented limit */
    LORAFMT_NO_MEMORY,
    LORAFMT_IO,        /**< a system call failed; os_error says why */
    LORAFMT_NOT_FOUND, /**< a file, adapter or tensor of that name is not there */
    LORAFMT_MISMATCH,  /**< adapter and base are both intact but do not belong together */
    LORAFMT_MISUSE,    /**< the arguments break the contract of the function */
    LORAFMT_CANCELLED, /**< the caller's progress callback asked to stop */
    LORAFMT_UNTRUSTED, /**< intact, but not from whom it must be; or a key that others could use */
} lorafmt_status;

/** What a person can do about a failure, where the text alone does not say how: a program names its own way. */
typedef enum lorafmt_hint {
    LORAFMT_HINT_NONE = 0,
    LORAFMT_HINT_BASE,        /**< give the base: lorafmt_source_options.base */
    LORAFMT_HINT_ALPHA,       /**< give the alpha: lorafmt_source_options.alpha */
    LORAFMT_HINT_EXPERTS,     /**< say how the base stores experts: lorafmt_source_options.orientation */
    LORAFMT_HINT_ORIENTATION, /**< say how the base stores linear layers: lorafmt_bind_options.orientation */
    LORAFMT_HINT_MAP,         /**< say how names correspond: lorafmt_bind_options.renames */
    LORAFMT_HINT_ANY_BASE,    /**< lorafmt_bind_options.any_base lets it pass */
    LORAFMT_HINT_REPLACE,     /**< lorafmt_pack_options.force lets an adapter take the place of another */
    LORAFMT_HINT_ROLLBACK,    /**< lorafmt_rollback() to the generation that is shown accepts it */
    LORAFMT_HINT_LOCK,        /**< what is there is not what was locked: lorakit_scenarios_lock() accepts it */
} lorafmt_hint;

/** lorafmt_error.offset when the failure has no place in a file. */
#define LORAFMT_NO_OFFSET UINT64_MAX

/**
 * Where and why something failed. Owned by the caller, filled by the library on failure only; nothing to free.
 * All texts are NUL-terminated, and UTF-8 unless a path is not; what did not fit is cut.
 */
typedef struct lorafmt_error {
    lorafmt_status status;
    lorafmt_hint hint;
    int os_error;    /**< errno for LORAFMT_IO, else 0 */
    uint64_t offset; /**< byte offset in the file, or LORAFMT_NO_OFFSET */
    char file[512];  /**< path, or empty */
    char field[256]; /**< tensor name or field path as the spec spells it, or empty */
    char text[1024]; /**< what was found and what is allowed; no full stop, no newline */
} lorafmt_error;

/** Name of a status without its prefix, e.g. "CORRUPT". Never NULL. */
LORAFMT_API const char *lorafmt_status_name(lorafmt_status status);

/**
 * Write "FILE: FIELD at 0xOFFSET: TEXT" into buf, leaving out what is unknown. Control characters, which may
 * come from hostile names, are replaced by '?'.
 *
 * @return the length written, without the NUL; at most size - 1
 */
LORAFMT_API size_t lorafmt_error_format(const lorafmt_error *err, char *buf, size_t size);

#ifdef __cplusplus
}
#endif

#endif
