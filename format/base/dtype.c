/* SPDX-License-Identifier: MIT */
#include "format/base/dtype.h"

#include "format/base/arith.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* spec 4.6.1; index = number */
static const struct {
    const char *name;
    unsigned bits;
} dtypes[] = {
    [LORAFMT_BOOL] = {"BOOL", 8},
    [LORAFMT_F4] = {"F4", 4},
    [LORAFMT_F6_E2M3] = {"F6_E2M3", 6},
    [LORAFMT_F6_E3M2] = {"F6_E3M2", 6},
    [LORAFMT_U8] = {"U8", 8},
    [LORAFMT_I8] = {"I8", 8},
    [LORAFMT_F8_E5M2] = {"F8_E5M2", 8},
    [LORAFMT_F8_E4M3] = {"F8_E4M3", 8},
    [LORAFMT_F8_E8M0] = {"F8_E8M0", 8},
    [LORAFMT_I16] = {"I16", 16},
    [LORAFMT_U16] = {"U16", 16},
    [LORAFMT_F16] = {"F16", 16},
    [LORAFMT_BF16] = {"BF16", 16},
    [LORAFMT_I32] = {"I32", 32},
    [LORAFMT_U32] = {"U32", 32},
    [LORAFMT_F32] = {"F32", 32},
    [LORAFMT_C64] = {"C64", 64},
    [LORAFMT_F64] = {"F64", 64},
    [LORAFMT_I64] = {"I64", 64},
    [LORAFMT_U64] = {"U64", 64},
    [LORAFMT_F8_E4M3FNUZ] = {"F8_E4M3FNUZ", 8},
    [LORAFMT_F8_E5M2FNUZ] = {"F8_E5M2FNUZ", 8},
};

#define N_DTYPES (sizeof dtypes / sizeof dtypes[0])

const char *lorafmt_dtype_name(lorafmt_dtype dtype)
{
    return (size_t)dtype < N_DTYPES ? dtypes[dtype].name : NULL;
}

unsigned lorafmt_dtype_bits(lorafmt_dtype dtype)
{
    return (size_t)dtype < N_DTYPES ? dtypes[dtype].bits : 0;
}

lorafmt_dtype lorafmt_dtype_from_name(const char *name)
{
    for (size_t i = 1; i < N_DTYPES; i++)
        if (strcmp(dtypes[i].name, name) == 0)
            return (lorafmt_dtype)i;
    return (lorafmt_dtype)0;
}

bool lf_tensor_same_type(const lorafmt_tensor *a, const lorafmt_tensor *b)
{
    return a->dtype == b->dtype && a->n_dims == b->n_dims && memcmp(a->shape, b->shape, sizeof a->shape) == 0;
}

bool lf_dtype_is_real(lorafmt_dtype dtype)
{
    return dtype == LORAFMT_F32 || dtype == LORAFMT_F16 || dtype == LORAFMT_BF16 || dtype == LORAFMT_F64;
}

bool lf_tensor_measure(lorafmt_dtype dtype, uint32_t n_dims, const uint64_t *shape, uint64_t *n_bytes)
{
    const unsigned element = lorafmt_dtype_bits(dtype);
    uint64_t n = 1, bits;

    if (n_dims > LORAFMT_MAX_DIMS || element == 0)
        return false;
    for (uint32_t i = 0; i < n_dims; i++)
        if (!lf_mul_u64(n, shape[i], &n))
            return false;
    if (!lf_mul_u64(n, element, &bits) || bits % 8 || bits / 8 > LF_MAX_TENSOR_SIZE)
        return false;
    *n_bytes = bits / 8;
    return true;
}

bool lf_all_zero_elements(const lorafmt_tensor *tensor)
{
    const size_t unit = lorafmt_dtype_bits(tensor->dtype) / 8;
    const uint8_t *p = tensor->data;

    if (!lf_dtype_is_real(tensor->dtype))
        return false;
    for (uint64_t i = 0; i < tensor->size; i++)
        if (i % unit == unit - 1 ? p[i] & 0x7f : p[i]) // the last byte has the sign
            return false;
    return true;
}

/* Elements of `unit` bytes whose two highest have all bits of the exponent set. Inlined, so that unit is a constant. */
static inline uint64_t count_nonfinite(const uint8_t *p, uint64_t size, size_t unit, unsigned exponent)
{
    uint64_t count = 0;

    for (uint64_t i = unit; i <= size; i += unit)
        count += ((p[i - 2] | (unsigned)p[i - 1] << 8) & exponent) == exponent;
    return count;
}

/* Bytes that are `exponent` in its bits, the others not looked at. */
static inline uint64_t count_bytes(const uint8_t *p, uint64_t size, unsigned exponent)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i < size; i++)
        count += (p[i] & exponent) == exponent;
    return count;
}

static uint64_t count_byte(const uint8_t *p, uint64_t size, uint8_t nan)
{
    uint64_t count = 0;

    for (uint64_t i = 0; i < size; i++)
        count += p[i] == nan;
    return count;
}

/* C64 counts by its two numbers. F8_E4M3 has NaN alone, of both signs; E8M0 and the FNUZ kinds have one NaN. */
uint64_t lf_count_nonfinite(const lorafmt_tensor *tensor)
{
    switch (tensor->dtype) {
    case LORAFMT_F8_E5M2:
        return count_bytes(tensor->data, tensor->size, 0x7c);
    case LORAFMT_F8_E4M3:
        return count_bytes(tensor->data, tensor->size, 0x7f);
    case LORAFMT_F8_E8M0:
        return count_byte(tensor->data, tensor->size, 0xff);
    case LORAFMT_F8_E4M3FNUZ:
    case LORAFMT_F8_E5M2FNUZ:
        return count_byte(tensor->data, tensor->size, 0x80);
    case LORAFMT_F16:
        return count_nonfinite(tensor->data, tensor->size, 2, 0x7c00);
    case LORAFMT_BF16:
        return count_nonfinite(tensor->data, tensor->size, 2, 0x7f80);
    case LORAFMT_F32:
    case LORAFMT_C64:
        return count_nonfinite(tensor->data, tensor->size, 4, 0x7f80);
    case LORAFMT_F64:
        return count_nonfinite(tensor->data, tensor->size, 8, 0x7ff0);
    default:
        return 0;
    }
}

void lorafmt_tensor_elements(const lorafmt_tensor *tensor, lorafmt_elements *out)
{
    out->n_nonfinite = lf_count_nonfinite(tensor);
    out->all_zero = lf_all_zero_elements(tensor);
}

const char *lf_shape_text(uint32_t n_dims, const uint64_t *shape, char buf[LF_SHAPE_TEXT])
{
    size_t n = 1;

    buf[0] = '[';
    for (uint32_t i = 0; i < n_dims && n < LF_SHAPE_TEXT - 24; i++)
        n += (size_t)snprintf(buf + n, LF_SHAPE_TEXT - n, "%s%" PRIu64, i ? ", " : "", shape[i]);
    buf[n] = ']';
    buf[n + 1] = '\0';
    return buf;
}
