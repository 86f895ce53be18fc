/* SPDX-License-Identifier: MIT */
/**
 * A merged model as the files it would be: every file that lorafmt_merge() writes, with the same bytes, computed where and when they
 * are read. For front ends that serve files without storing them, and for writing some files of a model and not others.
 */
#ifndef LORAFMT_IMAGE_H
#define LORAFMT_IMAGE_H

#include "lorafmt/files.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lorafmt_image lorafmt_image;

typedef struct lorafmt_image_options {
    size_t struct_size;  /**< sizeof(lorafmt_image_options) */
    lorafmt_dtype dtype; /**< as in lorafmt_merge_options */

    /** Called with the name and reason of each file of the base that is not carried over; may be NULL. */
    void (*report)(void *ctx, const char *file, const char *why);
    void *report_ctx;
} lorafmt_image_options;

typedef struct lorafmt_image_file {
    const char *name;  /**< within the directory */
    uint64_t size;     /**< bytes */
    bool has_tensors;  /**< a safetensors file; else config, tokenizer, shard index and whatever lies beside them */
    bool same;         /**< every byte is that of the base's file */
    uint32_t mode;     /**< permissions of the base's file, as in st_mode & 0777 */
    uint32_t uid, gid; /**< its owner */
    int64_t mtime;     /**< of the base's file, in seconds since 1970 */
    unsigned mtime_ns; /**< and nanoseconds */
} lorafmt_image_file;

/**
 * @param model    must outlive the image. Side files are opened with the first image of a model and stay open with it, so that
 *                 replacing them by renaming changes nothing.
 * @param view     bound to lorafmt_model_base() of it; must outlive the image, which prepares its tensors when it needs them, so that
 *                 nobody else may
 * @param options  may be NULL
 *
 * @return LORAFMT_OK; MISUSE; UNSUPPORTED, MISMATCH as lorafmt_merge(); IO; NO_MEMORY
 */
LORAFMT_API lorafmt_status lorafmt_image_open(lorafmt_model *model, lorafmt_view *view, const lorafmt_image_options *options,
                                              lorafmt_image **out, lorafmt_error *err);
LORAFMT_API void lorafmt_image_free(lorafmt_image *image);

/** In ascending order of name. */
LORAFMT_API size_t lorafmt_image_n_files(const lorafmt_image *image);
LORAFMT_API const lorafmt_image_file *lorafmt_image_get_file(const lorafmt_image *image, size_t file);

/**
 * Bytes [offset, offset + size) of a file, from any thread, in any order.
 *
 * @return LORAFMT_OK; CORRUPT when the base's file was written to or truncated since it was opened; MISUSE (a range that is not in
 *         the file); IO; NO_MEMORY. On failure dst holds anything.
 */
LORAFMT_API lorafmt_status lorafmt_image_read(lorafmt_image *image, size_t file, uint64_t offset, void *dst, size_t size,
                                              lorafmt_error *err);

/**
 * What a thread remembers from one read to the next, which makes small reads of one tensor several times faster: its factors, if they
 * take no more than 2 MiB, and a buffer. For one thread at a time, and any images.
 */
typedef struct lorafmt_reader lorafmt_reader;

/** NULL when out of memory. */
LORAFMT_API lorafmt_reader *lorafmt_reader_new(void);
LORAFMT_API void lorafmt_reader_free(lorafmt_reader *reader);

/**
 * lorafmt_image_read() into memory of the reader.
 *
 * @param bytes  size of them, until the reader's next read
 */
LORAFMT_API lorafmt_status lorafmt_reader_read(lorafmt_reader *reader, lorafmt_image *image, size_t file, uint64_t offset,
                                               size_t size, const void **bytes, lorafmt_error *err);

typedef struct lorafmt_image_write_options {
    size_t struct_size; /**< sizeof(lorafmt_image_write_options) */
    unsigned n_threads; /**< 0 = one per CPU */
    bool force;         /**< replace an existing file */
    lorafmt_progress progress;
    void *progress_ctx;
} lorafmt_image_write_options;

/**
 * Write a file, whole or not at all, as fast as lorafmt_merge() does.
 *
 * @param options  may be NULL
 * @param counts   added to; may be NULL
 *
 * @return as lorafmt_merge()
 */
LORAFMT_API lorafmt_status lorafmt_image_write(lorafmt_image *image, size_t file, const char *path,
                                               const lorafmt_image_write_options *options, lorafmt_counts *counts,
                                               lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
